"""The NumPy codecs against hand-computed blocks, and bit for bit against the `gguf` package."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from llorch.quant.codecs.q8_0 import quantize_activation_q8_0
from llorch.quant.tensor import Tensor, dequantize, first_bad_scale, quantize
from llorch.quant.types import BF16, F16, F32, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q8_0, SUPPORTED, QuantType
from tests.support.random_blocks import HALVES, random_blocks

ALL_TYPES = pytest.mark.parametrize("quant_type", SUPPORTED.values(), ids=lambda t: t.name)
WRITTEN = [quant_type for quant_type in SUPPORTED.values() if quant_type.encode]
WRITTEN_TYPES = pytest.mark.parametrize("quant_type", WRITTEN, ids=lambda t: t.name)
N_RANDOM_BLOCKS = 24


def tensor_of(data: NDArray[np.generic], quant_type: QuantType, shape: tuple[int, ...]) -> Tensor:
    return Tensor("t", quant_type, shape, np.ascontiguousarray(data).view(np.uint8).ravel())


def reference_quantize(values: NDArray[np.float32], quant_type: QuantType) -> NDArray[np.uint8]:
    with np.errstate(all="ignore"):
        stored = gguf.quants.quantize(values, gguf.GGMLQuantizationType[quant_type.name])
    return np.ascontiguousarray(stored).view(np.uint8).ravel()


def reference_dequantize(tensor: Tensor) -> NDArray[np.float32]:
    rows = tensor.data.reshape(*tensor.shape[:-1], tensor.row_bytes)
    values = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[tensor.type.name])
    return np.asarray(values, np.float32).reshape(tensor.shape)


def bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


finite_rows = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.sampled_from([32, 64, 96])),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=True),
)
ordinary_rows = finite_rows.map(lambda x: np.where(np.abs(x) < 1e-30, np.float32(0), x))
"""Rows without denormals and negative zeros, where llama.cpp's quantiser and the `gguf` package differ."""
any_rows = arrays(
    np.uint32, st.tuples(st.integers(1, 3), st.sampled_from([32, 64])), elements=st.integers(0, 2**32 - 1)
).map(lambda words: words.view(np.float32))


@WRITTEN_TYPES
@given(values=ordinary_rows)
def test_quantize_equals_the_gguf_package(quant_type: QuantType, values: NDArray[np.float32]) -> None:
    stored = quantize(values, quant_type)
    assert stored.dtype == np.uint8
    assert stored.shape == (values.shape[0] * quant_type.row_bytes(values.shape[1]),)
    np.testing.assert_array_equal(stored, reference_quantize(values, quant_type))


@pytest.mark.parametrize("quant_type", [F32, F16, BF16], ids=lambda t: t.name)
@given(values=any_rows)
def test_floats_of_any_bits_convert_as_in_the_gguf_package(
    quant_type: QuantType, values: NDArray[np.float32]
) -> None:
    np.testing.assert_array_equal(quantize(values, quant_type), reference_quantize(values, quant_type))


@ALL_TYPES
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), special=st.binary(max_size=210))
def test_dequantize_equals_the_gguf_package_on_any_bytes(
    quant_type: QuantType, seed: int, special: bytes
) -> None:
    data = np.random.default_rng(seed).integers(0, 256, N_RANDOM_BLOCKS * quant_type.block_bytes, np.uint8)
    data[: len(special)] = np.frombuffer(special, np.uint8)[: len(data)]
    tensor = tensor_of(data, quant_type, (2, N_RANDOM_BLOCKS // 2 * quant_type.block_size))
    with np.errstate(all="ignore"):
        expected = reference_dequantize(tensor)
    values = dequantize(tensor)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
    is_number = ~np.isnan(expected)
    np.testing.assert_array_equal(bits(values[is_number]), bits(expected[is_number]))


@ALL_TYPES
def test_dequantize_gives_a_fresh_writable_array(quant_type: QuantType) -> None:
    tensor = random_blocks(quant_type, (2, 256), np.random.default_rng(0))
    tensor.data.setflags(write=False)
    values = dequantize(tensor)
    before = values[0, 0]
    values[0, 0] = 5
    assert dequantize(tensor)[0, 0] == before != 5


@ALL_TYPES
def test_blocks_of_ordinary_scales_agree_in_every_bit(quant_type: QuantType) -> None:
    tensor = random_blocks(quant_type, (33, 512), np.random.default_rng(1))
    np.testing.assert_array_equal(bits(dequantize(tensor)), bits(reference_dequantize(tensor)))


@WRITTEN_TYPES
def test_a_large_random_matrix_agrees_in_every_bit(quant_type: QuantType) -> None:
    values = np.random.default_rng(1).standard_normal((64, 256)).astype(np.float32)
    np.testing.assert_array_equal(quantize(values, quant_type), reference_quantize(values, quant_type))


def test_a_q8_0_block_by_hand() -> None:
    values = np.zeros(32, np.float32)
    values[:6] = [127, 1, -2, 63.5, -63.5, 0.5]  # d = 1, so halves are rounded away from zero
    stored = quantize(values, Q8_0)
    assert stored[:2].view("<f2")[0] == 1.0
    assert stored[2:8].view(np.int8).tolist() == [127, 1, -2, 64, -64, 1]
    assert not stored[8:].any()
    values[3:6] = [64, -64, 1]
    np.testing.assert_array_equal(dequantize(Tensor("t", Q8_0, (32,), stored)), values)


def test_the_float_just_below_a_half_is_rounded_down() -> None:
    values = np.zeros(32, np.float32)
    values[:2] = [127, np.nextafter(np.float32(0.5), np.float32(0))]
    assert quantize(values, Q8_0)[3] == 0


def test_bfloat16_rounds_ties_to_even_and_keeps_nan() -> None:
    words = [
        0x3F80_8000,
        0x3F81_8000,
        0x3F80_8001,
        0x7F80_0001,
        0xFFC0_1234,
        0x7F80_0000,
        0x7F7F_FFFF,
        0x0000_0001,
    ]
    stored = quantize(np.array(words, np.uint32).view(np.float32), BF16).view("<u2")
    assert [hex(word) for word in stored] == [
        "0x3f80", "0x3f82", "0x3f81", "0x7fc0", "0xffc0", "0x7f80", "0x7f80", "0x0",
    ]  # fmt: skip


@pytest.mark.parametrize("tiny", [1e-45, 1e-40, 1e-38, 1e-9])
def test_a_q8_0_block_of_denormals_becomes_zero(tiny: float) -> None:
    values = np.full(32, tiny, np.float32)
    values[1] = 0
    stored = quantize(values, Q8_0)
    np.testing.assert_array_equal(stored[:2], [0, 0])
    assert not dequantize(Tensor("t", Q8_0, (32,), stored)).any()
    q, d = quantize_activation_q8_0(values)
    assert d[0] == 0
    assert np.abs(q.astype(int)).max() <= 127


@pytest.mark.parametrize("quant_type", [Q4_0, Q5_0], ids=lambda t: t.name)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zeros_have_the_scale_that_llama_cpp_gives_them(quant_type: QuantType, zero: float) -> None:
    """The `gguf` package gives 0.0 where the first zero is negative."""
    stored = quantize(np.full(32, zero, np.float32), quant_type)
    assert stored[:2].tolist() == [0, 0x80], "minus zero"
    assert not dequantize(Tensor("t", quant_type, (32,), stored)).any()


@pytest.mark.parametrize("quant_type", [Q4_1, Q5_1], ids=lambda t: t.name)
@pytest.mark.parametrize("zeros", [(0.0, -0.0), (-0.0, 0.0)])
def test_the_minimum_is_the_first_of_several_zeros(quant_type: QuantType, zeros: tuple[float, float]) -> None:
    values = np.ones(32, np.float32)
    values[[3, 9]] = zeros
    m = quantize(values, quant_type)[2:4].view("<f2")[0]
    assert np.signbit(m) == np.signbit(zeros[0])


@pytest.mark.parametrize("quant_type", [Q4_0, Q4_1, Q5_0, Q5_1], ids=lambda t: t.name)
def test_a_block_of_denormals_becomes_zeros(quant_type: QuantType) -> None:
    """One over its scale is infinite; llama.cpp then stores the integer 0."""
    values = np.zeros(32, np.float32)
    values[[0, 7]] = [1e-40, -2e-41]
    stored = quantize(values, quant_type)
    integers = stored[quant_type.block_bytes - 16 :]
    assert not integers.any()
    assert np.abs(dequantize(Tensor("t", quant_type, (32,), stored))).max() == 0


@pytest.mark.parametrize(
    ("quant_type", "largest", "ties", "integers"),
    [
        (Q4_0, -8.0, [0.5, 1.5, -0.5, 7.9], [9, 10, 8, 15]),
        (Q5_0, -16.0, [0.5, 1.5, -0.5, 15.9], [17, 18, 16, 31]),
    ],
    ids=["Q4_0", "Q5_0"],
)
def test_halves_go_up(quant_type: QuantType, largest: float, ties: list[float], integers: list[int]) -> None:
    values = np.zeros(32, np.float32)
    values[:5] = [largest, *ties]
    decoded = dequantize(Tensor("t", quant_type, (32,), quantize(values, quant_type)))
    zero = -int(largest)
    assert [int(value) + zero for value in decoded[:5]] == [0, *integers]


def test_rows_that_are_not_whole_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="33 elements are not whole blocks of 32"):
        quantize(np.zeros((2, 33), np.float32), Q8_0)


def test_activations_by_hand() -> None:
    x = np.zeros((2, 64), np.float32)
    x[0, :6] = [127, 0.5, 1.5, 2.5, -0.5, -1.5]  # 127 / amax = 1, halves go to even
    x[1, 32:34] = [-254, 3]
    q, d = quantize_activation_q8_0(x)
    assert q.dtype == np.int8
    assert q[0, :6].tolist() == [127, 0, 2, 2, 0, -2]
    assert q[1, 32:34].tolist() == [-127, 2]
    assert d.tolist() == [[1, 0], [0, 2]]
    assert not q[0, 6:].any()


@given(values=finite_rows)
def test_activations_follow_the_formula_block_by_block(values: NDArray[np.float32]) -> None:
    q, d = quantize_activation_q8_0(values)
    assert q.shape == values.shape
    assert d.shape == (values.shape[0], values.shape[1] // 32)
    for block, q_block, scale in zip(values.reshape(-1, 32), q.reshape(-1, 32), d.ravel(), strict=True):
        amax = max(abs(v) for v in block)
        if amax < np.float32(1e-36):
            assert scale == 0
            continue
        assert scale == np.float32(np.float16(amax / np.float32(127)))
        inverse = np.float32(127) / amax
        assert q_block.tolist() == [round(float(v * inverse)) for v in block]  # round() takes halves to even


def test_a_vector_of_activations_is_one_row() -> None:
    x = np.linspace(-1, 1, 96, dtype=np.float32)
    q, d = quantize_activation_q8_0(x)
    assert (q.shape, d.shape) == ((96,), (3,))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@ALL_TYPES
def test_the_first_bad_scale_is_found(quant_type: QuantType, bad: float) -> None:
    tensor = random_blocks(quant_type, (4, 1024), np.random.default_rng(0))
    assert first_bad_scale(tensor) is None
    blocks = tensor.data.reshape(-1, quant_type.block_bytes)
    written = quantize(np.array([bad], np.float32), F16 if quant_type.name in HALVES else quant_type)
    for at in HALVES.get(quant_type.name, (0,)):
        kept = blocks.copy()
        for index in (len(blocks) - 1, 5):
            blocks[index, at : at + len(written)] = written
            assert first_bad_scale(tensor) == index
        blocks[:] = kept


def test_int8_values_that_look_like_nan_are_no_bad_scale() -> None:
    stored = np.full(34, 0xFF, np.uint8)
    stored[:2] = np.array([1], np.float16).view(np.uint8)
    assert first_bad_scale(Tensor("t", Q8_0, (32,), stored)) is None


def test_a_type_without_an_encoder_in_the_table_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Q4_K has no encoder"):
        quantize(np.zeros((1, 256), np.float32), Q4_K)
