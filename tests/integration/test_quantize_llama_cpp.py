"""Files beside those of llama.cpp's own quantiser: the same bytes, header and all. Needs llama-cpp-python."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.convert.k_encoders import K_ENCODERS
from llorch.convert.mixtures import FILE_TYPES, FileType
from llorch.convert.quantize import encoder_of, plan_quantization, write_quantized
from llorch.formats.gguf.file import GGUFFile
from llorch.quant import types
from llorch.quant.tensor import dequantize
from llorch.quant.types import QuantType
from tests.support.hard_values import hard_cases
from tests.support.tiny_models import write_tiny_llama
from tools.reference.llama_cpp_eval import LlamaCppModel, load_llama_cpp

pytestmark = [
    pytest.mark.slow,
    pytest.mark.reference,
    pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed"),
]

every_file_type = pytest.mark.parametrize("wanted", FILE_TYPES, ids=lambda t: t.name)
pure_or_mixed = pytest.mark.parametrize("is_pure", [True, False], ids=["pure", "mixed"])
ENCODED = ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", *K_ENCODERS)
N_GREEDY = 64


def encoded_by_ggml(values: NDArray[np.float32], quant: QuantType) -> NDArray[np.uint8]:
    api = load_llama_cpp()
    library = ctypes.CDLL(str(next(Path(api._lib._name).resolve().parent.glob("libggml-base.so*"))))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
        ctypes.c_void_p,
    ]  # fmt: skip
    out = np.zeros(quant.row_bytes(values.size), np.uint8)
    n_rows = values.size // 256
    written = library.ggml_quantize_chunk(
        quant.ggml_id, values.ctypes.data, out.ctypes.data, 0, n_rows, 256, None
    )
    assert written == out.nbytes
    return out


def quantized_by_llama_cpp(source: Path, out: Path, wanted: FileType, is_pure: bool) -> None:
    api = load_llama_cpp()
    params = api.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.pure, params.allow_requantize = wanted.number, 2, is_pure, True
    assert api.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)) == 0


def assert_same_file(source: Path, folder: Path, wanted: FileType, is_pure: bool) -> tuple[Path, Path]:
    ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
    with GGUFFile(source) as file:
        plan = plan_quantization(file, ours, wanted, is_pure=is_pure, may_requantise=True)
        write_quantized(file, plan, n_threads=2)
    quantized_by_llama_cpp(source, theirs, wanted, is_pure)
    with GGUFFile(ours) as a, GGUFFile(theirs) as b:
        assert [(t.name, t.type_name) for t in a.own_infos] == [(t.name, t.type_name) for t in b.own_infos]
    assert ours.read_bytes() == theirs.read_bytes()
    return ours, theirs


@pytest.mark.parametrize("case", hard_cases())
@pytest.mark.parametrize("name", ENCODED)
def test_hard_values_give_the_same_bytes(name: str, case: str) -> None:
    quant, values = getattr(types, name), hard_cases()[case]
    np.testing.assert_array_equal(encoder_of(quant)(values), encoded_by_ggml(values, quant))


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("scale", [1e-6, 0.02, 1.0, 50.0])
def test_random_values_give_the_same_bytes(name: str, scale: float) -> None:
    quant = getattr(types, name)
    values = (np.random.default_rng(0).standard_normal(1 << 16) * scale).astype(np.float32)
    np.testing.assert_array_equal(encoder_of(quant)(values), encoded_by_ggml(values, quant))


@every_file_type
@pure_or_mixed
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "apart"])
def test_a_model_whose_rows_suit_some_types_becomes_the_same_file(
    tmp_path: Path, wanted: FileType, is_pure: bool, tied: bool
) -> None:
    """Rows of 256 and of 288 values, and as many layers as tell the rules apart."""
    write_tiny_llama(tmp_path / "in.gguf", type="F32", n_layer=18, n_embd=256, n_ff=288, tied=tied)
    assert_same_file(tmp_path / "in.gguf", tmp_path, wanted, is_pure)


@every_file_type
def test_rows_too_short_for_any_type_become_the_same_file(tmp_path: Path, wanted: FileType) -> None:
    write_tiny_llama(tmp_path / "in.gguf", type="F32", n_embd=64, n_ff=88)
    assert_same_file(tmp_path / "in.gguf", tmp_path, wanted, is_pure=False)


def test_shared_values_of_80_layers_become_the_same_file(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "in.gguf", type="F16", n_layer=80, n_embd=256, n_ff=256)
    wanted = next(row for row in FILE_TYPES if row.name == "Q4_K_M")
    ours, _ = assert_same_file(tmp_path / "in.gguf", tmp_path, wanted, is_pure=False)
    with GGUFFile(ours) as written:
        assert written.tensor_infos["blk.10.attn_v.weight"].type_name == "Q5_K"


@every_file_type
@pytest.mark.parametrize("name", ["stories260K-f32.gguf", "tinystories-656k-q8_0.gguf"])
def test_trained_models_become_the_same_file(
    model_path: Callable[[str], Path], tmp_path: Path, name: str, wanted: FileType
) -> None:
    assert_same_file(model_path(name), tmp_path, wanted, is_pure=False)


def greedy(path: Path) -> list[int]:
    with LlamaCppModel(path, 256) as model:
        token_ids = model.tokenize("The capital of France is")
        logits = model.decode(token_ids, 0, all_rows=False)
        made: list[int] = []
        while len(made) < N_GREEDY:
            made.append(int(logits[-1].argmax()))
            logits = model.decode(made[-1:], len(token_ids) + len(made) - 1, all_rows=False)
    return made


@pure_or_mixed
@pytest.mark.parametrize("name", ["Q4_0", "Q5_1", "Q4_K_M", "Q6_K"])
def test_llama_cpp_goes_on_from_our_file_as_from_its_own(
    smollm2: Path, tmp_path: Path, name: str, is_pure: bool
) -> None:
    wanted = next(row for row in FILE_TYPES if row.name == name)
    ours, theirs = assert_same_file(smollm2, tmp_path, wanted, is_pure)
    assert greedy(ours) == greedy(theirs)


@pytest.mark.parametrize("name", K_ENCODERS)
def test_k_types_are_as_close_to_real_weights_as_llama_cpp_makes_them(smollm2: Path, name: str) -> None:
    quant = getattr(types, name)
    with GGUFFile(smollm2) as file:
        for tensor in ("blk.0.ffn_down.weight", "blk.29.ffn_down.weight"):
            values = dequantize(file.tensors[tensor]).ravel()
            ours, theirs = encoder_of(quant)(values), encoded_by_ggml(values, quant)
            errors = [np.sqrt(np.mean((quant.decode(data) - values) ** 2)) for data in (ours, theirs)]
            assert errors[0] <= 1.01 * errors[1]
            np.testing.assert_array_equal(ours, theirs)
