"""`llorch validate` as users type it: verdicts, exit codes and refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from llorch.cli.validate import STORED_REFERENCES
from llorch.model_files import DEMO_PATH
from tests.conftest import REPOSITORY
from tests.support.proof import GOLDEN, TINY, error_of


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """The tiny model's references, to be changed."""
    folder = tmp_path / "references"
    for name in ("tiny-native", "tiny-f32"):
        shutil.copytree(GOLDEN / name, folder / name)
    return folder


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_json_has_every_checkpoint_of_both_profiles(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*TINY, "--reference", str(GOLDEN), "--proof-dir", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is True
    assert Path(document["bundle"], "bundle.json").is_file()
    numbers = ["1", "2", "3", "3b", *map(str, range(4, 13))]
    for profile in ("native", "f32"):
        rows = [row for row in document["checkpoints"] if row["profile"] == profile]
        assert list(dict.fromkeys(row["number"] for row in rows)) == numbers
        assert {row["verdict"] for row in rows} == {"pass"}


def test_the_table_is_plain_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [*TINY, "--reference", str(GOLDEN), "--profile", "f32", "--proof-dir", str(tmp_path)]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    assert "profile f32" in out
    assert "profile native" not in out
    assert out.splitlines()[-1].startswith("passed: ")


def test_a_divergence_exits_1_and_names_stage_figures_and_usual_cause(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llorch.model.config import ModelConfig

    right = ModelConfig.from_metadata

    def wrong(metadata: Any, oddities: Any = None) -> ModelConfig:
        import dataclasses

        return dataclasses.replace(right(metadata, oddities), norm_eps=1e-3)

    monkeypatch.setattr(ModelConfig, "from_metadata", wrong)
    words = [*TINY, "--reference", str(GOLDEN), "--proof-dir", str(tmp_path)]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "checkpoint 1, stage by stage: attn_norm-0, prefill differs" in out
    assert "ours is" in out
    assert "usual cause: eps" in out
    assert "skipped" in out
    (folder,) = (tmp_path / "checkpoint").iterdir()
    assert "FAILED" in (folder / "summary.md").read_text()
    assert main(["validate", "--verify", str(folder)]) == 1


def test_another_model_is_refused_by_hash(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    data = bytearray((GOLDEN / "tiny.gguf").read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    words = ["validate", "-m", str(other), "--reference", str(GOLDEN), "--proof-dir", str(tmp_path)]
    assert "sha256" in error_of(capsys, words)


def test_weights_that_are_not_the_twins_are_refused_by_hash(
    capsys: pytest.CaptureFixture[str], references: Path, tmp_path: Path
) -> None:
    change_manifest(references / "tiny-f32", lambda m: m["twin"].update(weights_sha256="0" * 64))
    words = [*TINY, "--reference", str(references / "tiny-f32"), "--proof-dir", str(tmp_path)]
    assert "weights of sha256 0000" in error_of(capsys, words)


def test_another_prompt_is_refused(
    capsys: pytest.CaptureFixture[str], references: Path, tmp_path: Path
) -> None:
    words = [*TINY, "--proof-dir", str(tmp_path), "--reference"]
    assert "made from the prompt" in error_of(capsys, [*words, str(GOLDEN), "-p", "Something else"])
    change_manifest(references / "tiny-native", lambda m: m["prompt"].update(text="Something else"))
    assert "prompt ids" in error_of(capsys, [*words, str(references / "tiny-native")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (TINY, "--reference DIR is missing"),
        ([*TINY, "--reference", str(REPOSITORY)], "holds no manifest.json"),
        ([*TINY, "--reference", str(GOLDEN / "tiny-f32"), "--profile", "native"], "profile native"),
        (["validate", "--verify", str(GOLDEN)], "bundle.json cannot be read"),
        ([*TINY, "--profile", "int8"], "invalid choice"),
    ],
)
def test_bad_usage_exits_2_with_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    try:
        code: object = main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_verify_without_a_bundle_lists_those_there_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["validate", "--verify", "--proof-dir", str(tmp_path)]
    assert "there are no proof bundles in" in error_of(capsys, words)
    about = {"schema": "llorch-proof/2", "kind": "checkpoint", "files": {}}
    bundles = {
        "second": about | {"created": "2026-02-02", "passed": False},
        "first": about | {"created": "2026-01-01\x1b[2J", "passed": True},
        "broken": {},
    }
    for name, document in bundles.items():
        (tmp_path / "checkpoint" / name).mkdir(parents=True)
        (tmp_path / "checkpoint" / name / "bundle.json").write_text(json.dumps(document))
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[1:] for line in out[:-1]] == [
        ["2026-01-01\\x1b[2J", "says", "passed", str(tmp_path / "checkpoint" / "first")],
        ["2026-02-02", "says", "FAILED", str(tmp_path / "checkpoint" / "second")],
    ]
    assert out[-1].startswith("nothing was checked")
    assert main([*words, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {Path(one["bundle"]).name: one["passed"] for one in listed} == {"first": True, "second": False}
    assert set(listed[0]) == {"bundle", "kind", "created", "passed"}
    key = tmp_path / "key.pem"
    assert "name it with --verify BUNDLE" in error_of(capsys, [*words, "--verify-key", str(key)])
    assert "is no bundle, but holds 2" in error_of(capsys, ["validate", "--verify", str(tmp_path)])


def keep_layer_1_only(folder: Path) -> None:
    """What `--layers 1` would have dumped."""
    import hashlib

    import numpy as np

    for name in ("prefill.npz", "decode.npz"):
        kept = {
            key: values
            for key, values in np.load(folder / name).items()
            if not key.endswith("-0") or (key.startswith("prefill/") and key.endswith("/l_out-0"))
        }
        np.savez_compressed(folder / name, **kept)

    def change(manifest: dict[str, Any]) -> None:
        manifest["layers"] = [1]
        for name, entry in manifest["files"].items():
            entry["sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()

    change_manifest(folder, change)


def test_layers_that_were_not_dumped_are_compared_as_wholes(
    capsys: pytest.CaptureFixture[str], references: Path, tmp_path: Path
) -> None:
    keep_layer_1_only(references / "tiny-native")
    words = [*TINY, "--reference", str(references / "tiny-native"), "--proof-dir", str(tmp_path), "--json"]
    assert main(words) == 0
    folder = Path(json.loads(capsys.readouterr().out)["bundle"])
    checks = [json.loads(line) for line in (folder / "checks-native.ndjson").read_text().splitlines()[1:]]
    of_layer_0 = [check for check in checks if check["layer"] == 0]
    assert {(check["way"], check["stage"]) for check in of_layer_0} == {
        ("local", "l_out"),
        ("end_to_end", "l_out"),
    }
    assert {check["note"] for check in of_layer_0 if check["way"] == "local"} == {
        "the whole layer from the reference's input"
    }
    assert main(["validate", "--verify", str(folder)]) == 0


def test_a_twin_that_does_not_fit_into_memory_is_refused_before_it_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("llorch.validation.subject.available_memory", lambda: 100_000)
    words = [*TINY, "--reference", str(GOLDEN / "tiny-f32"), "--proof-dir", str(tmp_path)]
    assert "tools/reference/make_f32_twin.py" in error_of(capsys, words)


def test_the_twins_own_file_is_taken_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, references: Path
) -> None:
    """Another writer's twin has other bytes around the same weights, so the reference is told its hash."""
    import hashlib

    import gguf

    from tests.support.tiny_models import write_tiny_llama

    reader = gguf.GGUFReader(GOLDEN / "tiny.gguf")
    expanded = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).reshape(
            [int(n) for n in reversed(tensor.shape)]
        )
        for tensor in reader.tensors
    }
    twin = tmp_path / "twin.gguf"
    write_tiny_llama(twin, n_layer=2, seed=7, type="F32", tensor_overrides=expanded)
    sha256 = hashlib.sha256(twin.read_bytes()).hexdigest()
    change_manifest(references / "tiny-f32", lambda m: m["twin"].update(sha256=sha256))
    words = ["validate", "-m", str(twin), "--reference", str(references / "tiny-f32")]
    assert main([*words, "--proof-dir", str(tmp_path), "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["bundle"])
    (profile,) = json.loads((folder / "checkpoints.json").read_text())["profiles"]
    assert profile["ours"]["weights"] == "the file that the reference was run with"


def test_a_terminal_gets_colours_and_progress(tmp_path: Path) -> None:
    import os
    import pty
    import subprocess
    import sys

    main_end, terminal = pty.openpty()
    words = [*TINY, "--reference", str(GOLDEN / "tiny-f32"), "--proof-dir", str(tmp_path)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    child = subprocess.Popen(
        [sys.executable, "-m", "llorch", *words],
        stdout=terminal,
        stderr=terminal,
        env=environment,
        cwd=REPOSITORY,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(main_end, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(main_end)
    assert child.wait() == 0
    assert b"\x1b[32mpass\x1b[0m" in shown
    assert b"stage by stage" in shown
    assert b"f32: prefill, stage by stage" in shown


needs_demo = pytest.mark.skipif(
    not (DEMO_PATH.exists() and STORED_REFERENCES.exists()),
    reason="the demo model or its stored references are not in this checkout",
)


@needs_demo
def test_the_demo_model_validates_at_once_from_stored_references(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["validate", "--proof-dir", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["profile"] for row in document["checkpoints"]} == {"native", "f32"}
    assert {row["verdict"] for row in document["checkpoints"]} == {"pass"}
