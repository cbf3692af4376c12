"""`llorch report` as users type it: one page of a trace, of a bundle, or of both."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from llorch.report.bundle_figures import BundleFigures, read_bundle
from llorch.report.document import page_of
from llorch.report.trace_file import read_trace
from llorch.report.truth import truth_of
from llorch.validation.dumps import Reference
from llorch.validation.tolerances import CHECKPOINTS
from tests.conftest import REPOSITORY
from tests.support.faults import faulty_subject, one_value_off
from tests.support.proof import error_of, stored_bundle
from tests.support.traces import TINY_MODEL, TINY_REFERENCE, summary_of

PERFORMANCE = sorted(
    path.parent.name for path in (REPOSITORY / "proof_bundle" / "performance").glob("*/bundle.json")
)


Bundle = tuple[BundleFigures, str]


def map_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def report(path: Path, *sources: Path) -> str:
    assert main(["report", *map(str, sources), "-o", str(path)]) == 0
    return path.read_text()


def test_a_trace_gives_times_rooflines_and_differences_of_every_cell(
    tiny_trace: Path, tmp_path: Path
) -> None:
    page = report(tmp_path / "r.html", tiny_trace)
    data, summary = map_of(page), json.loads(tiny_trace.read_text())["llorch"]
    assert data["layers"] == [-1, 0, 1]
    assert data["operations"] == list(summary["operations"])
    cells = {(cell["operation"], cell["layer"]): cell for cell in data["cells"]}
    assert len(cells) == sum(map(len, summary["operations"].values()))
    for (label, layer), cell in cells.items():
        expected = summary["operations"][label][str(layer)]
        assert {key: cell["time"][key] for key in expected} == expected
        assert cell["time"]["gb_s"] == pytest.approx(expected["bytes"] / expected["seconds"] / 1e9)
    norm = {tensor["name"]: tensor for tensor in cells["norm", 1]["tensors"]}
    assert norm.keys() == {"attn_norm-1", "ffn_norm-1"}
    assert norm["attn_norm-1"]["statistics"]["shape"][1] == 64
    assert norm["attn_norm-1"]["found"]["native"].keys() == {"local", "end_to_end"}
    assert "Every checkpoint passed" in page


def test_the_page_says_what_it_is_about_and_what_it_does_not_show(tiny_trace: Path, tmp_path: Path) -> None:
    page = report(tmp_path / "r.html", tiny_trace)
    summary = json.loads(tiny_trace.read_text())["llorch"]
    for fact in (
        "tiny llama: time and truth",
        summary["cpu"],
        summary["kernel_path"],
        summary["model"]["sha256"],
    ):
        assert html.escape(str(fact)) in page
    for checkpoint in CHECKPOINTS:
        assert f"<td>{html.escape(checkpoint.title)}</td>" in page
    assert "What this page does not show" in page
    assert "Differences were taken in another run than the times" in page
    for label in summary["operations"]:
        assert f'<th scope="row">{label}</th>' in page


def test_a_page_needs_nothing_but_itself(tiny_trace: Path, tmp_path: Path) -> None:
    page = report(tmp_path / "r.html", tiny_trace)
    assert not re.findall(r"(?:src|href|url|@import|fetch|XMLHttp)\s*[=(]", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    rules = html.unescape(policy[1])
    assert rules.startswith("default-src 'none';")
    assert "unsafe" not in rules
    for tag in ("style", "script"):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in rules
    assert not re.findall(r"\sstyle=|\son\w+=", page.split("<script>")[0])


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """A stored bundle, and its page."""
    figures = read_bundle(stored_bundle("checkpoint"))
    return figures, page_of(None, figures)


def test_a_bundle_of_checkpoints_gives_differences_alone(bundle: Bundle) -> None:
    page = bundle[1]
    data = map_of(page)
    assert all(cell["time"] is None for cell in data["cells"])
    assert sorted(data["profiles"]) == ["f32", "native"]
    cells = {(cell["operation"], cell["layer"]): cell for cell in data["cells"]}
    (query,) = cells["attn_q", 3]["tensors"]
    assert query["found"].keys() == {"f32", "native"}
    assert {t["name"] for t in cells["rope_store", 0]["tensors"]} == {
        "Qcur_rope-0", "Kcur_rope-0", "cache_k-0", "cache_v-0"
    }  # fmt: skip
    assert "has no times" in page
    assert "Time by operation" not in page


def test_differences_of_a_bundle_are_the_worst_of_its_checks(bundle: Bundle) -> None:
    lines = (bundle[0].bundle.folder / "checks-native.ndjson").read_text().splitlines()[1:]
    checks = [json.loads(line) for line in lines]
    data = map_of(bundle[1])
    (cell,) = (c for c in data["cells"] if (c["operation"], c["layer"]) == ("ffn_up", 2))
    shown = cell["tensors"][0]["found"]["native"]["end_to_end"]
    nmse = [
        check["comparison"]["nmse"]
        for check in checks
        if (check["stage"], check["layer"], check["way"]) == ("ffn_up", 2, "end_to_end")
    ]
    assert shown["nmse"] == max(nmse)


def test_a_trace_and_a_bundle_are_joined_under_different_names(tiny_trace: Path, bundle: Bundle) -> None:
    summary = read_trace(tiny_trace)
    unknown = summary.model.model_copy(update={"sha256": None})
    data = map_of(page_of(summary.model_copy(update={"model": unknown}), bundle[0]))
    assert sorted(data["profiles"]) == ["f32", "native", "native (trace)"]
    (cell,) = (c for c in data["cells"] if (c["operation"], c["layer"]) == ("attn_k", 0))
    assert cell["time"]["n"] == 4
    assert cell["tensors"][0]["found"].keys() == set(data["profiles"])


@pytest.mark.parametrize("run_id", PERFORMANCE)
def test_a_performance_bundle_gives_its_figures(run_id: str, tmp_path: Path) -> None:
    bundle = REPOSITORY / "proof_bundle" / "performance" / run_id
    page = report(tmp_path / "r.html", bundle)
    assert "Layers × operations" not in page
    assert "says nothing about the values" in page
    figures = re.findall(r'<td class="number">([\d.,e+-]+)</td>', page)
    assert len(figures) > 3


def test_a_loading_bundle_gives_its_checks(tmp_path: Path) -> None:
    page = report(tmp_path / "r.html", stored_bundle("loading"))
    assert "What was checked while the file was read" in page
    assert "DOES NOT HOLD" not in page


def test_a_trace_without_a_reference_says_that_nothing_was_compared(tiny_trace: Path) -> None:
    page = page_of(summary_of(tiny_trace, truth=None), None)
    assert map_of(page)["profiles"] == []
    assert "Nothing was judged" in page
    assert "Nothing was compared" in page
    assert "Checkpoints" not in page


def test_a_planted_fault_is_the_only_cell_that_is_not_within_its_tolerance(tiny_trace: Path) -> None:
    reference = Reference.load(TINY_REFERENCE)
    change = one_value_off("blk.1.attn_output.weight")
    with faulty_subject(TINY_MODEL, reference, tensors=change) as subject:
        truth = truth_of(subject, reference).record()
    page = page_of(summary_of(tiny_trace, truth=truth), None)
    outside = {
        (cell["operation"], cell["layer"], tensor["name"])
        for cell in map_of(page)["cells"]
        for tensor in cell["tensors"]
        if not tensor["found"]["native"]["local"]["within"]
    }
    assert outside == {("attn_output", 1, "attn_out-1")}
    assert "FAILED: checkpoint 5, stage by stage: attn_out-1, prefill differs" in page


def test_json_names_the_file_and_nothing_else(
    tiny_trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.html"
    assert main(["report", str(tiny_trace), "-o", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(path)}


def test_two_traces_are_refused_and_a_bundle_stays_as_it_is(
    tiny_trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = stored_bundle("checkpoint")
    assert "one trace and one bundle at most" in error_of(
        capsys, ["report", str(tiny_trace), str(tiny_trace)]
    )
    error = error_of(capsys, ["report", str(bundle), "-o", str(bundle / "report.html")])
    assert "would be in the bundle" in error
    assert not (bundle / "report.html").exists()
