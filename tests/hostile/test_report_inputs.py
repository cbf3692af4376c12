"""Traces and bundles that are none, or lie: `llorch report` says so in one line and writes nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from llorch.errors import InputError
from llorch.report.bundle_figures import BundleFigures
from llorch.report.document import page_of
from llorch.report.trace_file import BYTES_AT_MOST, CELLS_AT_MOST, read_trace
from llorch.validation.bundle import Bundle
from tests.support.proof import error_of, rehash, stored_bundle

CELL = {"seconds": 1e-3, "n": 3, "bytes": 10, "macs": 5, "roofline": 0.5}
SUMMARY: dict[str, Any] = {
    "version": "1",
    "model": {"name": "m"},
    "n_threads": 2,
    "kernel_path": "avx2",
    "kv_type": "f16",
    "cpu": "a CPU",
    "operations": {"norm": {"0": CELL, "-1": CELL}},
}


def written(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({"llorch": {**SUMMARY, **changes}, "traceEvents": []}))
    return path


CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is no JSON"),
    "no JSON": (b"GGUF\x03\x00\x00\x00", "is no JSON"),
    "truncated": (json.dumps({"llorch": SUMMARY, "traceEvents": [1, 2]}).encode()[:-3], "is no JSON"),
    "a list": (b"[1, 2]", "expected"),
    "another trace": (b'{"traceEvents": []}', "llorch is missing"),
    "deep": (b'{"llorch": ' + b"[" * 100_000, "is no JSON"),
    "deep events": (b'{"traceEvents": ' + b"[" * 100_000, "is no JSON"),
    "a long number": (b'{"llorch": ' + b"9" * 1_000_000 + b"}", "llorch"),
    "not UTF-8": (b'{"llorch": "\xff\xfe"}', "is no JSON"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_no_trace_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, expected = CONTENTS[name]
    (tmp_path / "trace.json").write_bytes(content)
    error = error_of(capsys, ["report", str(tmp_path / "trace.json"), "-o", str(tmp_path / "r.html")])
    assert expected in error
    assert "`llorch trace -o FILE` writes" in error
    assert len(error) < 1000
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("key", list(SUMMARY))
def test_a_missing_key_is_named(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lacking = {name: value for name, value in SUMMARY.items() if name != key}
    (tmp_path / "t.json").write_text(json.dumps({"llorch": lacking}))
    assert f"{key} is missing" in error_of(capsys, ["report", str(tmp_path / "t.json")])


@pytest.mark.parametrize(
    "changes",
    [
        {"operations": {}},
        {"operations": {"norm": {"x": CELL}}},
        {"operations": {"norm": {"-2": CELL}}},
        {"operations": {"norm": {"99999999": CELL}}},
        {"operations": {"norm": {"²": CELL}}},
        {"operations": {"norm": {"0": {**CELL, "seconds": -1}}}},
        {"operations": {"norm": {"0": {**CELL, "seconds": "inf"}}}},
        {"operations": {"norm": {"0": {**CELL, "n": 1.5}}}},
        {"operations": {f"x{i}": {"0": CELL} for i in range(CELLS_AT_MOST + 1)}},
        {"operations": [CELL]},
        {"model": "m"},
        {"n_threads": -1},
        {"truth": {}},
        {"steps": [{"rows": 1}]},
    ],
)
def test_a_value_out_of_range_is_named(
    changes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, ["report", str(written(tmp_path / "t.json", **changes))])
    assert next(iter(changes)) in error
    assert len(error) < 1000


def test_numbers_that_json_lacks_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.dumps({"llorch": SUMMARY}).replace("0.001", "NaN")
    (tmp_path / "t.json").write_text(content)
    assert "seconds is nan" in error_of(capsys, ["report", str(tmp_path / "t.json")])


def test_a_file_too_large_to_read_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "t.json").open("wb") as file:
        file.truncate(BYTES_AT_MOST + 1)
    assert "is larger than" in error_of(capsys, ["report", str(tmp_path / "t.json")])


def test_what_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "absent.json" in error_of(capsys, ["report", str(tmp_path / "absent.json")])
    (tmp_path / "folder").mkdir()
    assert "bundle.json cannot be read" in error_of(capsys, ["report", str(tmp_path / "folder")])
    trace = written(tmp_path / "t.json")
    nowhere = tmp_path / "no" / "r.html"
    assert "there is no folder" in error_of(capsys, ["report", str(trace), "-o", str(nowhere)])
    assert "is the file that is read" in error_of(capsys, ["report", str(trace), "-o", str(trace)])


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{data}}\u2028\ud83d\ude00"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    cells = {EVIL: {"0": CELL}}
    trace = read_trace(written(tmp_path / "t.json", model={"name": EVIL}, cpu=EVIL, operations=cells))
    page = page_of(trace, None)
    for tag in ("<img", "<script>alert", "onerror=alert(2)>"):
        assert tag not in page.replace("onerror=alert(2)&gt;", "")
    assert page.count("<script") == page.count("</script>") == 2


COMPARISON: dict[str, Any] = {
    "n_values": 1, "max_abs": "nan", "mean_abs": "-inf", "relative": "inf", "nmse": "nan", "cosine": "nan",
    "worst_index": [0], "ours": "nan", "theirs": 1e308, "limit": -1.0, "passed": True,
}  # fmt: skip
RESULT: dict[str, Any] = {
    "checkpoint": "1", "way": "local", "run": EVIL, "stage": "attn_norm", "layer": 0, "verdict": "pass",
    "tolerance": {"absolute": 1e-5, "relative": 0.0, "nmse": 1e-300}, "comparison": COMPARISON, "note": EVIL,
}  # fmt: skip
TRUTH: dict[str, Any] = {
    "profile": "native",
    "passed": True,
    "reference": {
        "model_file": EVIL, "model_sha256": "", "program": EVIL, "command": EVIL, "n_prompt_tokens": 1,
        "n_decode": 0, "layers": [0], "n_layer": 10**30,
    },
    "rows": [
        {
            "number": "1", "title": EVIL, "way": "local", "verdict": "fail", "reason": EVIL, "n_checks": 1,
            "worst": RESULT,
        }
    ],
    "results": [RESULT, {**RESULT, "layer": 10**20}, {**RESULT, "layer": -7}, {**RESULT, "stage": EVIL}],
    "statistics": {
        "attn_norm-0": {
            "shape": [1], "min": "nan", "max": "inf", "mean": None, "rms": None, "zeros": "nan", "n_nan": 1, "n_inf": 1,
        }
    },
}  # fmt: skip


def test_figures_that_are_no_numbers_and_places_that_are_none_do_not_stop_a_page(tmp_path: Path) -> None:
    tiny = {"norm": {"0": {**CELL, "seconds": 1e-320, "bytes": 1e308}}}
    page = page_of(read_trace(written(tmp_path / "t.json", truth=TRUTH, operations=tiny)), None)
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found is not None
    (cell,) = json.loads(found[1])["cells"]
    assert cell["time"]["gb_s"] is None
    assert cell["tensors"][0]["found"]["native"]["local"]["share"] == 1e9
    assert "<img" not in page


@pytest.fixture(scope="module")
def bundle() -> Path:
    return stored_bundle("checkpoint")


def altered(bundle: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the bundle with other checkpoints, hashes forged accordingly."""
    shutil.copytree(bundle, folder)
    document = json.loads((folder / "checkpoints.json").read_text())
    change(document)
    (folder / "checkpoints.json").write_text(json.dumps(document))
    rehash(folder)
    return folder


def test_a_forged_bundle_is_shown_as_one(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def forge(document: dict[str, Any]) -> None:
        document["profiles"][0]["rows"][0]["verdict"] = "fail"

    folder = altered(bundle, tmp_path / "forged", forge)
    assert main(["report", str(folder), "-o", str(tmp_path / "r.html")]) == 0
    assert "The bundle does not hold" in (tmp_path / "r.html").read_text()


def test_a_bundle_of_absurd_sizes_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def blow_up(document: dict[str, Any]) -> None:
        document["profiles"][0]["reference"]["sizes"]["n_layer"] = 10**9

    folder = altered(bundle, tmp_path / "absurd", blow_up)
    assert "n_layer" in error_of(capsys, ["report", str(folder), "-o", str(tmp_path / "r.html")])


def test_a_trace_of_another_model_is_not_joined(bundle: Path, tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "t.json", model={"name": "m", "sha256": "0" * 64}))
    with pytest.raises(InputError, match="of different models: sha256 0000000000000000… and "):
        page_of(trace, BundleFigures(Bundle.open(bundle)))
