"""`llorch validate` as users type it: verdicts, exit codes, refusals, bundles and their re-checking."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from llorch.cli.validate import STORED_REFERENCES
from llorch.open_model import DEMO_PATH
from llorch.validation.bundle import RUN_ID_VARIABLE
from tests.conftest import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden" / "checkpoints"
TINY = ["validate", "-m", str(GOLDEN / "tiny.gguf")]
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


def error_of(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """The one line of a command that is refused."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


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

    def wrong(metadata: Any) -> ModelConfig:
        import dataclasses

        return dataclasses.replace(right(metadata), norm_eps=1e-3)

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
        else:
            assert b"generated" in content[:20000], path.name
    assert {path.name for path in bundle.iterdir()} == {
        "bundle.json", "checkpoints.json", "checks-native.ndjson", "checks-f32.ndjson", "values-native.npz",
        "values-f32.npz", "drift.png", "worst.png", "summary.md",
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


def rehash(folder: Path) -> None:
    """What a forger would do after changing a file."""
    import hashlib

    index = json.loads((folder / "bundle.json").read_text())
    for name, entry in index["files"].items():
        content = (folder / name).read_bytes()
        entry.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    (folder / "bundle.json").write_text(json.dumps(index))


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


@pytest.fixture
def loading_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    words = ["inspect", "-m", str(GOLDEN / "tiny.gguf"), "--proof", "--proof-dir", str(tmp_path), "--json"]
    assert main(words) == 0
    return Path(json.loads(capsys.readouterr().out)["bundle"])


def test_a_loading_bundle_is_written_and_verifies(
    loading_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((loading_bundle / "loading.json").read_text())
    assert {check["passed"] for check in document["checks"]} == {True}
    assert sum(check["name"].startswith("refused: ") for check in document["checks"]) == 9
    assert set(document["timings"]) == {
        "open_and_check_header_s", "hash_s", "check_config_and_weights_s", "load_tokenizer_s", "load_kernels_s",
        "place_weights_s", "first_step_s",
    }  # fmt: skip
    assert all(seconds >= 0 for seconds in document["timings"].values())
    assert main(["validate", "--verify", str(loading_bundle)]) == 0
    rows = (loading_bundle / "tensors.ndjson").read_text().replace('"bytes": 2176', '"bytes": 2177')
    (loading_bundle / "tensors.ndjson").write_text(rows)
    rehash(loading_bundle)
    assert main(["validate", "--verify", str(loading_bundle)]) == 1
    assert "type and shape give 2176" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["output.weight", "token_embd.weight", "blk.1.ffn_down.weight"])
def test_a_matrix_of_another_shape_does_not_verify(
    name: str, loading_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shape has as many values as the right one, so that its size in bytes is right."""
    path = loading_bundle / "tensors.ndjson"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    (row,) = (row for row in rows if row.get("name") == name)
    n_out, n_in = row["shape"]
    row["shape"] = [n_out // 2, n_in * 2]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rehash(loading_bundle)
    assert main(["validate", "--verify", str(loading_bundle)]) == 1
    assert f"{name}: shape {row['shape']}, sizes give {[n_out, n_in]}" in capsys.readouterr().out


def test_more_layers_than_tensors_do_not_verify(
    loading_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = loading_bundle / "loading.json"
    path.write_text(path.read_text().replace('"n_layer": 2', '"n_layer": 1000000000000'))
    rehash(loading_bundle)
    assert main(["validate", "--verify", str(loading_bundle)]) == 1
    assert "too few for 1000000000000 layers" in capsys.readouterr().out


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


@pytest.mark.skipif(not STORED_BUNDLES.exists(), reason="no proof bundles are stored in this checkout")
def test_the_stored_bundles_verify(capsys: pytest.CaptureFixture[str]) -> None:
    bundles = sorted(path.parent for path in STORED_BUNDLES.glob("*/*/bundle.json"))
    assert bundles
    for folder in bundles:
        assert main(["validate", "--verify", str(folder)]) == 0, capsys.readouterr().out
