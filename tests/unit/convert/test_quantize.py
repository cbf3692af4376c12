"""Files of other types: what is in them, what is refused, and what is left behind when something goes wrong."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.convert import quantize
from llorch.convert.gguf_writer import lay_out, uint32_pair
from llorch.convert.mixtures import file_type
from llorch.convert.quantize import Plan, plan_quantization, write_quantized
from llorch.errors import InputError, LlorchError
from llorch.formats.gguf.file import GGUFFile
from llorch.progress import Progress, ignore_progress
from llorch.quant.tensor import dequantize
from tests.support.tiny_models import write_tiny_llama

LEGACY = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


def quantized(
    source: Path,
    out: Path,
    wanted: str,
    *,
    n_threads: int = 2,
    progress: Progress = ignore_progress,
    **how: bool,
) -> Plan:
    with GGUFFile(source) as file:
        plan = plan_quantization(file, out, file_type(wanted), **how)
        write_quantized(file, plan, n_threads=n_threads, progress=progress)
    return plan


@pytest.fixture
def f32_model(tmp_path: Path) -> Path:
    """Rows of 64 and of 96 values, an output of its own."""
    path = tmp_path / "f32.gguf"
    write_tiny_llama(path, type="F32", n_layer=2)
    return path


def assert_stored(out: Path, weights: dict[str, NDArray[np.float32]], wanted: str) -> None:
    """Every matrix is what the `gguf` package makes of it, every vector is as it was."""
    with GGUFFile(out) as written:
        assert set(written.tensors) == set(weights)
        for name, tensor in written.tensors.items():
            kind = "F32" if weights[name].ndim == 1 else wanted
            assert tensor.type.name == kind, name
            expected = gguf.quants.quantize(weights[name], gguf.GGMLQuantizationType[kind])
            np.testing.assert_array_equal(tensor.data, expected.view(np.uint8).ravel(), err_msg=name)


@pytest.mark.parametrize("wanted", LEGACY)
def test_weights_are_those_of_the_gguf_package(tmp_path: Path, wanted: str) -> None:
    weights = write_tiny_llama(tmp_path / "f32.gguf", type="F32", n_layer=2)
    quantized(tmp_path / "f32.gguf", tmp_path / "out.gguf", wanted, is_pure=True)
    assert_stored(tmp_path / "out.gguf", weights, wanted)


@pytest.mark.parametrize("wanted", LEGACY)
@pytest.mark.parametrize("name", ["stories260K-f32.gguf", "tinystories-656k-f32.gguf"])
def test_weights_of_trained_models_are_those_of_the_gguf_package(
    model_path: Callable[[str], Path], tmp_path: Path, name: str, wanted: str
) -> None:
    quantized(model_path(name), tmp_path / "out.gguf", wanted, is_pure=True)
    with GGUFFile(model_path(name)) as source, GGUFFile(tmp_path / "out.gguf") as written:
        for tensor in written.tensors.values():
            values = dequantize(source.tensors[tensor.name])
            expected = gguf.quants.quantize(values, gguf.GGMLQuantizationType[tensor.type.name])
            np.testing.assert_array_equal(tensor.data, expected.view(np.uint8).ravel(), err_msg=tensor.name)
            assert tensor.type.name in (wanted, "F32" if values.ndim == 1 else "F16")


def test_metadata_is_kept_but_for_the_file_type(f32_model: Path, tmp_path: Path) -> None:
    plan = quantized(f32_model, tmp_path / "out.gguf", "Q4_K_M")
    with GGUFFile(f32_model) as source, GGUFFile(tmp_path / "out.gguf") as written:
        assert written.n_bytes == plan.layout.n_bytes == (tmp_path / "out.gguf").stat().st_size
        assert (written.version, written.alignment) == (3, 32)
        assert written.metadata["general.file_type"] == 15
        assert written.metadata["general.quantization_version"] == 2
        for key in set(source.metadata) - {"general.file_type"}:
            assert written.metadata.pair(key) == source.metadata.pair(key)
        assert set(written.metadata) - set(source.metadata) == {"general.quantization_version"}


@pytest.mark.parametrize("alignment", [8, 256])
def test_an_alignment_of_its_own_is_kept(tmp_path: Path, alignment: int) -> None:
    usual, source, out = (tmp_path / name for name in ("usual.gguf", "in.gguf", "out.gguf"))
    weights = write_tiny_llama(usual, type="F32")
    with GGUFFile(usual) as file:
        pairs = [*map(file.metadata.pair, file.metadata), uint32_pair("general.alignment", alignment)]
        layout = lay_out(pairs, [(t.name, t.type, t.shape) for t in file.tensors.values()], alignment)
        content = bytearray(layout.n_bytes)
        content[: len(layout.header)] = layout.header
        for tensor in layout.tensors:
            content[tensor.offset : tensor.offset + tensor.n_bytes] = file.tensors[tensor.name].data.tobytes()
    source.write_bytes(content)
    quantized(source, out, "Q8_0")
    with GGUFFile(out) as written:
        assert written.alignment == alignment
        assert written.metadata.value_type("general.alignment") == "uint32"
    assert_stored(out, weights, "Q8_0")


def test_the_number_of_threads_and_the_size_of_pieces_change_nothing(
    f32_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized(f32_model, tmp_path / "one.gguf", "Q5_0", n_threads=1)
    monkeypatch.setattr(quantize, "PIECE_ELEMENTS", 500)
    monkeypatch.setattr(quantize, "FORGET_BYTES", 1000)
    quantized(f32_model, tmp_path / "many.gguf", "Q5_0", n_threads=5)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "many.gguf").read_bytes()


def test_memory_does_not_depend_on_the_size_of_a_tensor(tmp_path: Path) -> None:
    source = tmp_path / "in.gguf"
    write_tiny_llama(source, type="F16", n_embd=256, n_ff=256, n_vocab=40_000)
    tracemalloc.start()
    try:
        quantized(source, tmp_path / "out.gguf", "Q8_0", n_threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40_000 * 256 * 2, "the embedding alone is larger, and there is an output as large"


def test_a_split_model_becomes_one_file(f32_model: Path, tmp_path: Path) -> None:
    first, whole = tmp_path / "m-00001-of-00002.gguf", tmp_path / "whole.gguf"
    weights = write_split(first)
    quantized(first, whole, "Q4_1", is_pure=True)
    assert_stored(whole, weights, "Q4_1")
    with GGUFFile(whole) as written:
        assert not [key for key in written.metadata if key.startswith("split.")]
        assert len(written.part_paths) == 1
    for part in (first, tmp_path / "m-00002-of-00002.gguf"):
        with pytest.raises(InputError, match="is the file that is read"):
            quantized(first, part, "Q8_0")


def write_split(first: Path) -> dict[str, NDArray[np.float32]]:
    """A model of two files; returns its weights."""
    weights = write_tiny_llama(first.with_name("all.gguf"), type="F32")
    kind = gguf.GGUFValueType
    in_second = [name for name in weights if name.startswith("blk")]
    for number, dropped in enumerate((in_second, [name for name in weights if name not in in_second])):
        numbers: dict[str, Any] = {
            "split.no": (kind.UINT16, number),
            "split.count": (kind.UINT16, 2),
            "split.tensors.count": (kind.INT32, len(weights)),
        }
        path = first.with_name(first.name.replace("00001", f"{number + 1:05}"))
        write_tiny_llama(path, type="F32", overrides=numbers, tensor_overrides=dict.fromkeys(dropped))
    return weights


def test_weights_that_are_quantised_already_need_leave(tmp_path: Path) -> None:
    source, out = tmp_path / "q8_0.gguf", tmp_path / "out.gguf"
    write_tiny_llama(source)
    with pytest.raises(InputError, match=r"q8_0\.gguf: .*tensors are quantised already.*--allow-requantize"):
        quantized(source, out, "Q4_0")
    assert not out.exists()
    assert quantized(source, out, "Q4_0", may_requantise=True).requantised
    assert not quantized(source, out, "Q8_0").requantised, "nothing changes"
    assert not quantized(source, out, "F32").requantised, "nothing is lost"


def test_rows_that_are_no_whole_super_blocks_are_counted(f32_model: Path, tmp_path: Path) -> None:
    with GGUFFile(f32_model) as source:
        assert plan_quantization(source, tmp_path / "x", file_type("Q4_K_M")).n_unfit == 16
        assert plan_quantization(source, tmp_path / "x", file_type("Q4_0")).n_unfit == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, "holds NaN or an infinite number"),
        (-np.inf, "holds NaN or an infinite number"),
        (1e30, "holds numbers too large for Q4_0"),
    ],
)
def test_weights_that_cannot_be_stored_are_named_and_the_old_file_stays(
    tmp_path: Path, value: float, said: str
) -> None:
    source, out = tmp_path / "in.gguf", tmp_path / "out.gguf"
    out.write_bytes(b"old")
    weights = write_tiny_llama(source, type="F32")
    weights["blk.0.ffn_up.weight"][70, 3] = value
    write_tiny_llama(source, type="F32", tensor_overrides=weights)
    with pytest.raises(InputError, match=f"tensor 'blk.0.ffn_up.weight' {said}"):
        quantized(source, out, "Q4_0")
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["in.gguf", "out.gguf"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_at_any_piece_leaves_nothing(
    f32_model: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    out = tmp_path / "out.gguf"
    out.write_bytes(b"old")
    for n_pieces in (1, 7, 20):
        seen: list[str] = []

        def stop(what: str, done: int, total: int, seen: list[str] = seen, n_pieces: int = n_pieces) -> None:
            seen.append(what)
            if len(seen) == n_pieces:
                raise error

        with pytest.raises(error):
            quantized(f32_model, out, "Q6_K", progress=stop)
        assert out.read_bytes() == b"old"
        assert sorted(os.listdir(tmp_path)) == ["f32.gguf", "out.gguf"]


def test_progress_ends_at_the_size_of_the_file(f32_model: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    plan = quantized(f32_model, tmp_path / "out", "Q8_0", progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert {total for _, _, total in seen} == {plan.layout.n_bytes}
    assert seen[-1][1] > plan.layout.n_bytes - 32 * len(plan.layout.tensors)
    assert seen[0][0] == "output.weight Q8_0"


def test_a_source_that_changes_meanwhile_is_noticed(f32_model: Path, tmp_path: Path) -> None:
    def change(what: str, done: int, total: int) -> None:
        os.utime(f32_model, (1, 1))

    with pytest.raises(InputError, match=r"f32\.gguf was written to while it was read"):
        quantized(f32_model, tmp_path / "out.gguf", "Q8_0", progress=change)
    assert os.listdir(tmp_path) == ["f32.gguf"]


def test_a_file_that_reads_back_differently_does_not_appear(
    f32_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = uint32_pair("general.alignment", 64)
    monkeypatch.setattr(quantize, "uint32_pair", lambda key, value: damaged)
    with pytest.raises(LlorchError):
        quantized(f32_model, tmp_path / "out.gguf", "Q8_0")
    assert os.listdir(tmp_path) == ["f32.gguf"]


def test_a_type_that_llorch_cannot_read_is_refused(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "in.gguf", types={"attn_q.weight": "MXFP4"})
    with pytest.raises(InputError, match=r"'blk\.0\.attn_q\.weight' has type MXFP4.*llama-quantize"):
        quantized(tmp_path / "in.gguf", tmp_path / "out.gguf", "Q8_0", may_requantise=True)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "in.gguf", overrides={"general.architecture": "gpt2"})
    with pytest.raises(InputError, match="gpt2"):
        quantized(tmp_path / "in.gguf", tmp_path / "out.gguf", "F32")
