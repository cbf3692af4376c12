"""Opening reference dumps: what is read, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.errors import ReferenceDumpError
from llorch.validation.dumps import Reference
from tests.unit.validation.reference_folder import GREEDY_IDS, SIZES, make_arrays, make_manifest, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "reference", make_manifest(), make_arrays())


def test_every_stage_of_every_pass_comes_back(folder: Path) -> None:
    reference = Reference.load(folder)
    arrays = make_arrays()
    n_read = 0
    for run in reference.passes():
        for stage, layer in reference.stages(run):
            key = f"{run.name}/{stage}" + (f"-{layer}" if layer >= 0 else "")
            values = reference.array(run, stage, layer)
            assert np.array_equal(values, arrays[key])
            assert not values.flags.writeable
            n_read += 1
    assert n_read == len(arrays)


def test_passes_follow_the_greedy_ids(folder: Path) -> None:
    passes = list(Reference.load(folder).passes())
    assert [run.name for run in passes] == ["prefill", "decode/0", "decode/1"]
    assert [run.token_ids for run in passes] == [(1, 5, 9), (GREEDY_IDS[0],), (GREEDY_IDS[1],)]
    assert [(run.position, run.n_kv) for run in passes] == [(0, 3), (3, 4), (4, 5)]


def test_stages_come_in_the_order_of_the_computation(folder: Path) -> None:
    reference = Reference.load(folder)
    stages = list(reference.stages(next(reference.passes())))
    assert stages[:3] == [("inp_embd", -1), ("attn_norm", 0), ("Qcur", 0)]
    assert stages[-3:] == [("l_out", 1), ("result_norm", -1), ("result_output", -1)]


def test_chosen_layers_keep_the_output_of_all(tmp_path: Path) -> None:
    manifest = make_manifest() | {"layers": [1]}
    arrays = {k: v for k, v in make_arrays().items() if not k.endswith("-0") or "l_out" in k}
    reference = Reference.load(write_folder(tmp_path, manifest, arrays))
    run = next(reference.passes())
    assert [layer for stage, layer in reference.stages(run) if stage == "l_out"] == [0, 1]
    assert [layer for stage, layer in reference.stages(run) if stage == "Qcur"] == [1]


def test_decode_steps_may_hold_cache_rows_and_logits_only(tmp_path: Path) -> None:
    reference = Reference.load(write_folder(tmp_path, make_manifest("kv"), make_arrays("kv")))
    step = list(reference.passes())[1]
    assert {stage for stage, _ in reference.stages(step)} == {"Kcur_rope", "Vcur", "result_output"}


def test_a_dump_without_decode_steps_needs_no_second_file(tmp_path: Path) -> None:
    manifest = make_manifest() | {"n_decode": 0, "greedy": {"token_ids": [3], "margins": [1.0]}}
    arrays = {key: value for key, value in make_arrays().items() if key.startswith("prefill/")}
    assert [run.name for run in Reference.load(write_folder(tmp_path, manifest, arrays)).passes()] == [
        "prefill"
    ]


def test_shapes_have_tokens_first_and_scores_heads_first() -> None:
    assert SIZES.shape("attn_norm", 3, 5) == (3, 8)
    assert SIZES.shape("Qcur_rope", 3, 5) == (3, 4, 2)
    assert SIZES.shape("Vcur", 3, 5) == (3, 2, 2)
    assert SIZES.shape("kq", 3, 5) == (4, 3, 5)
    assert SIZES.shape("ffn_up", 3, 5) == (3, 12)
    assert SIZES.shape("result_output", 3, 5) == (3, 16)


def test_another_model_is_refused_by_hash(folder: Path) -> None:
    reference = Reference.load(folder)
    reference.require_model("a" * 64)
    with pytest.raises(ReferenceDumpError, match=r"made from tiny\.gguf .* but this model has bbbb"):
        reference.require_model("b" * 64)


def test_the_twin_is_as_good_as_its_source(tmp_path: Path) -> None:
    twin = {"sha256": "c" * 64, "weights_sha256": "d" * 64}
    manifest = make_manifest() | {"profile": "f32", "twin": twin}
    reference = Reference.load(write_folder(tmp_path, manifest, make_arrays()))
    assert reference.profile == "f32"
    assert reference.manifest.twin is not None
    assert reference.manifest.twin.weights_sha256 == "d" * 64
    reference.require_model("a" * 64)
    reference.require_model("c" * 64)


def test_another_tokenization_is_refused(folder: Path) -> None:
    reference = Reference.load(folder)
    reference.require_prompt((1, 5, 9))
    with pytest.raises(ReferenceDumpError, match=r"\[1, 5, 9\].*\[1, 5\]"):
        reference.require_prompt((1, 5))


def test_an_altered_file_is_noticed(folder: Path) -> None:
    data = bytearray((folder / "prefill.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "prefill.npz").write_bytes(data)
    with pytest.raises(ReferenceDumpError, match=r"prefill\.npz was altered"):
        Reference.load(folder)


@pytest.mark.parametrize("name", ["manifest.json", "prefill.npz", "decode.npz"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ReferenceDumpError, match=name.replace(".", r"\.")):
        Reference.load(folder)


def test_missing_stages_are_listed(tmp_path: Path) -> None:
    arrays = make_arrays()
    del arrays["prefill/Kcur_rope-1"], arrays["prefill/kq-0"]
    write_folder(tmp_path, make_manifest(), arrays)
    with pytest.raises(ReferenceDumpError, match=r"lacks 2 arrays: prefill/Kcur_rope-1, prefill/kq-0"):
        Reference.load(tmp_path)


def replaced(name: str, value: np.ndarray) -> dict[str, np.ndarray]:
    return make_arrays() | {name: value}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (np.zeros((8, 3), np.float32), r"is float32 \(8, 3\), expected float32 \(3, 8\)"),
        (np.zeros((3, 8), np.int32), r"is int32 \(3, 8\)"),
        (np.zeros((3, 7), np.float32), r"is float32 \(3, 7\), expected float32 \(3, 8\)"),
        (np.zeros((3000, 8), np.float32), r"takes \d+ bytes, expected shape \(3, 8\)"),
        (np.full((3, 8), math.nan, np.float32), r"holds NaN or infinity"),
        (np.full((3, 8), math.inf, np.float32), r"holds NaN or infinity"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, value: np.ndarray, complaint: str) -> None:
    reference = Reference.load(write_folder(tmp_path, make_manifest(), replaced("prefill/inp_embd", value)))
    with pytest.raises(ReferenceDumpError, match=r"prefill/inp_embd " + complaint):
        reference.array(next(reference.passes()), "inp_embd")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    value = np.array([{"a": 1}] * 24, object)
    reference = Reference.load(write_folder(tmp_path, make_manifest(), replaced("prefill/inp_embd", value)))
    with pytest.raises(ReferenceDumpError, match=r"prefill/inp_embd"):
        reference.array(next(reference.passes()), "inp_embd")


def set_at(*path: str) -> Callable[[dict[str, Any], Any], None]:
    def change(manifest: dict[str, Any], value: Any) -> None:
        for name in path[:-1]:
            manifest = manifest[name]
        manifest[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("schema",), "llorch-reference/9", "schema is 'llorch-reference/9', expected 'llorch-reference/1'"),
        (("profile",), "f16", "profile is 'f16'"),
        (("model", "sha256"), "xyz", "model: sha256 is 'xyz', expected 64 hex digits"),
        (("model", "sizes", "n_layer"), 0, "model: sizes: n_layer is 0"),
        (("model", "sizes", "n_layer"), 10**12, "n_layer is 1000000000000"),
        (("model", "sizes", "n_layer"), 10**6, "n_layer is 1000000, expected less than or equal to 4096"),
        (("model", "sizes", "n_embd"), -1, "n_embd is -1"),
        (("model", "sizes", "n_embd"), True, "n_embd is True"),
        (("model", "sizes", "n_embd"), 8.5, "n_embd is 8.5"),
        (("model", "sizes"), None, "model: sizes is None, expected an object"),
        (("prompt", "token_ids"), [], "the prompt has no token"),
        (("prompt", "token_ids"), [1, 16], "token_ids is 16"),
        (("prompt", "token_ids"), "1,2", "token_ids is '1,2', expected a valid array"),
        (("prompt", "text"), 7, "prompt: text is 7"),
        (("greedy", "token_ids"), [3, 4], "token_ids has 2 entries, expected n_decode + 1 = 3"),
        (("greedy", "margins"), [1.0, math.nan, 1.0], "margins is nan"),
        (("layers",), [1, 0], "layers is [1, 0], expected ascending"),
        (("layers",), [], "layers is []"),
        (("layers",), [2], "layers is 2"),
        (("n_decode",), 10**9, "greedy.token_ids has 3 entries"),
        (("decode_stages",), "some", "decode_stages is 'some'"),
        (("files", "prefill.npz"), {}, "files: prefill.npz: sha256 is missing"),
        (("twin",), {"sha256": "c" * 64}, "twin: weights_sha256 is missing"),
    ],
)
def test_a_malformed_manifest_names_the_field(
    folder: Path, path: tuple[str, ...], value: Any, complaint: str
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    set_at(*path)(manifest, value)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ReferenceDumpError) as raised:
        Reference.load(folder)
    assert complaint in str(raised.value)


@pytest.mark.parametrize("key", sorted(set(make_manifest()) - {"twin", "arrays"}))
def test_every_key_of_the_manifest_is_needed(folder: Path, key: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[key]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ReferenceDumpError, match=f"{key} is missing"):
        Reference.load(folder)


@pytest.mark.parametrize(
    "path",
    [("promt",), ("model", "license"), ("model", "sizes", "n_experts"), ("files", "prefill.npz", "md5")],
)
def test_an_unknown_key_of_the_manifest_is_named(folder: Path, path: tuple[str, ...]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    set_at(*path)(manifest, 1)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ReferenceDumpError, match=rf"manifest\.json: {': '.join(path)} is not a known key"):
        Reference.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\x00", '{"schema": 1e999}'])
def test_what_is_no_manifest_is_one_clear_error(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ReferenceDumpError, match=r"manifest\.json"):
        Reference.load(folder)


def test_a_folder_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ReferenceDumpError, match="cannot be read"):
        Reference.load(tmp_path / "absent")


def test_an_archive_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    write_folder(tmp_path, make_manifest(), make_arrays())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "prefill.npz").write_bytes(b"")
    manifest["files"]["prefill.npz"]["sha256"] = (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ReferenceDumpError, match=r"prefill\.npz cannot be opened"):
        Reference.load(tmp_path)
