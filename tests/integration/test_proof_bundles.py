"""Proof bundles of checkpoints: complete, marked, and re-checked; a forged one does not verify."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from llorch.validation.bundle import SEALS
from llorch.validation.bundle_writer import RUN_ID_VARIABLE
from tests.conftest import REPOSITORY
from tests.support.proof import GOLDEN, TINY, error_of, rehash

STORED_BUNDLES = REPOSITORY / "proof_bundle"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of both profiles of the tiny model."""
    root = tmp_path_factory.mktemp("proof")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN_ID_VARIABLE, "both")
        assert main([*TINY, "--reference", str(GOLDEN), "--proof-dir", str(root)]) == 0
    return root / "checkpoint" / "both"


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def test_a_bundle_is_never_written_over(
    capsys: pytest.CaptureFixture[str], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUN_ID_VARIABLE, bundle.name)
    words = [*TINY, "--reference", str(GOLDEN), "--proof-dir", str(bundle.parents[1])]
    assert "exists already" in error_of(capsys, words)


def test_every_file_of_a_bundle_says_that_it_is_generated(bundle: Path) -> None:
    for path in bundle.iterdir():
        content = path.read_bytes()
        if path.suffix == ".npz":
            import numpy as np

            assert "generated" in str(np.load(path)["generated_by"])
        elif path.name not in SEALS:  # other people's tools read those
            assert b"generated" in content[:20000], path.name
    assert {path.name for path in bundle.iterdir()} == {
        "bundle.json", "checkpoints.json", "checks-native.ndjson", "checks-f32.ndjson", "values-native.npz",
        "values-f32.npz", "drift.png", "worst.png", "summary.md", "attestation.json", "SHA256SUMS",
    }  # fmt: skip


def test_without_matplotlib_the_summary_says_how_to_get_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llorch.bench.plots.find_spec", lambda name: None)
    monkeypatch.setenv(RUN_ID_VARIABLE, "bare")
    words = [*TINY, "--reference", str(GOLDEN / "tiny-f32"), "--proof-dir", str(tmp_path)]
    assert main(words) == 0
    folder = tmp_path / "checkpoint" / "bare"
    assert not list(folder.glob("*.png"))
    summary = (folder / "summary.md").read_text()
    assert "pip install 'llorch[plots]'" in summary
    assert ".png" not in summary
    assert main(["validate", "--verify", str(folder)]) == 0


def test_a_bundle_names_everything_the_result_depends_on(bundle: Path) -> None:
    index = json.loads((bundle / "bundle.json").read_text())
    assert re.match(r"(LLORCH_\w+=\S+ )*llorch validate ", index["command"])
    assert index["model"]["file"] == "tiny.gguf"
    assert {"llorch", "commit", "python", "numpy", "numba", "llvmlite", "kernels"} <= index[
        "environment"
    ].keys()
    document = json.loads((bundle / "checkpoints.json").read_text())
    for profile in document["profiles"]:
        reference = profile["reference"]
        assert reference["identity"]["commit"]
        assert reference["identity"]["build_flags"]
        assert reference["settings"]["type_k"] == "f32"
        assert len(reference["prompt_token_ids"]) == 18
        assert len({run["logits_sha256"] for run in profile["greedy_runs"]}) == 1
        assert len(profile["greedy_runs"]) == 3
        assert [point["layer"] for point in profile["drift"]] == [0, 1]


def test_an_untouched_bundle_verifies(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--verify", str(bundle), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["is_intact"]
    assert document["passed"]
    assert document["n_recomputed"] > 280


def change_check(folder: Path, stage: str, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "checks-native.ndjson"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(next(row for row in rows if row.get("stage") == stage))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def drop_check(folder: Path) -> None:
    path = folder / "checks-native.ndjson"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"ffn_gate", "layer": 1' not in line))


def change_value(folder: Path) -> None:
    import numpy as np

    path = folder / "values-native.npz"
    arrays = dict(np.load(path))
    key = "end_to_end/prefill/result_output"
    arrays[key] = arrays[key] + np.float32(1)
    np.savez_compressed(path, **arrays)


FORGERIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a verdict": (lambda f: change_check(f, "Qcur", lambda c: c.update(verdict="fail")), "says fail"),
    "a figure": (
        lambda f: change_check(f, "l_out", lambda c: c["comparison"].update(max_abs=0.5)),
        "max_abs",
    ),
    "a tolerance": (
        lambda f: change_check(f, "kq", lambda c: c["tolerance"].update(absolute=1.0)),
        "allowed",
    ),
    "greedy ids": (
        lambda f: change_check(f, "greedy tokens", lambda c: c["data"]["theirs"].__setitem__(3, 5)),
        "says pass, its data give the opposite",
    ),
    "most likely ids": (
        lambda f: change_check(f, "most likely", lambda c: c["data"].update(ours=c["data"]["theirs"][::-1])),
        "does not follow from the logits",
    ),
    "a checkpoint that allows more": (
        lambda f: change_check(f, "Qcur", lambda c: c.update(checkpoint="8")),
        "is no stage of checkpoint 8",
    ),
    "a stage left out": (drop_check, "ffn_gate-1 is missing"),
    "values": (change_value, "result_output"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_bundle_does_not_verify(name: str, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge, problem = FORGERIES[name]
    forge(copied)
    assert main(["validate", "--verify", str(copied)]) == 1
    assert "was altered: sha256" in capsys.readouterr().out
    rehash(copied)
    assert main(["validate", "--verify", str(copied)]) == 1
    assert problem in capsys.readouterr().out


def test_a_verdict_on_data_cannot_be_replaced_by_a_comparison(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in (copied / "checks-native.ndjson").read_text().splitlines()]
    equal = next(row for row in rows if row.get("stage") == "last row")

    def forge(check: dict[str, Any]) -> None:
        del check["data"]
        check.update(comparison=equal["comparison"], kept=equal["kept"])

    change_check(copied, "most likely", forge)
    rehash(copied)
    assert "cannot be checked" in error_of(capsys, ["validate", "--verify", str(copied)])


def test_files_that_are_missing_or_strange_do_not_verify(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "drift.png").unlink()
    (copied / "extra.txt").write_text("?")
    assert main(["validate", "--verify", str(copied)]) == 1
    out = capsys.readouterr().out
    assert "drift.png cannot be read" in out
    assert "extra.txt does not belong" in out


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "bundle.json").write_text("[]"),
        lambda f: (f / "bundle.json").write_text("{"),
        lambda f: (f / "bundle.json").write_text('{"schema": "other/1"}'),
        lambda f: (f / "checks-native.ndjson").write_text("{}\n{}\n"),
        lambda f: (f / "values-native.npz").write_bytes(b"no archive"),
        lambda f: (f / "checkpoints.json").write_text('{"profiles": 3}'),
    ],
)
def test_a_bundle_that_cannot_be_read_is_refused(
    change: Callable[[Path], object], copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(copied)
    if "files" in (copied / "bundle.json").read_text():
        rehash(copied)
    error_of(capsys, ["validate", "--verify", str(copied)])


@pytest.mark.skipif(not STORED_BUNDLES.exists(), reason="no proof bundles are stored in this checkout")
def test_the_stored_bundles_verify(capsys: pytest.CaptureFixture[str]) -> None:
    bundles = sorted(path.parent for path in STORED_BUNDLES.glob("*/*/bundle.json"))
    assert bundles
    for folder in bundles:
        assert main(["validate", "--verify", str(folder)]) == 0, capsys.readouterr().out
        assert (folder / "SHA256SUMS").exists(), folder
        assert (folder / "attestation.json").exists(), folder
