"""F32, F16 and BF16 products: bit for bit the sixteen-lane twin, and close to float64."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from llorch.quant.tensor import Tensor
from llorch.quant.types import BF16, F16, F32, QuantType
from tests.support import naive
from tests.support.kernel_calls import matmul, tensor_of
from tests.support.naive import bits

TYPES = pytest.mark.parametrize("quant_type", [F32, F16, BF16], ids=lambda t: t.name)
RELATIVE = 2e-6
"""Of the largest output, against float64: float32 accumulation over at most a thousand columns."""


def random(quant_type: QuantType, n_tokens: int, n_in: int, n_out: int) -> tuple[Tensor, np.ndarray]:
    rng = np.random.default_rng([n_tokens, n_in, n_out])
    weight = tensor_of(rng.standard_normal((n_out, n_in)).astype(np.float32), quant_type)
    return weight, rng.standard_normal((n_tokens, n_in)).astype(np.float32)


def dequantized(weight: Tensor) -> np.ndarray:
    kind = gguf.GGMLQuantizationType[weight.type.name]
    rows = weight.data.reshape(weight.shape[0], -1)
    rows = rows.view({"F32": np.float32, "F16": np.float16, "BF16": np.uint8}[weight.type.name])
    return np.asarray(gguf.dequantize(rows, kind), np.float32).reshape(weight.shape)


@TYPES
def test_a_product_worked_out_by_hand(quant_type: QuantType) -> None:
    w = np.array([[1, 2, 3], [-0.5, 0.25, 8]], np.float32)
    x = np.array([[1, 10, 100], [2, 0, -1]], np.float32)
    assert matmul(tensor_of(w, quant_type), x).tolist() == [[321, 802], [-1, -9]]


@TYPES
@pytest.mark.parametrize("n_in", [1, 7, 15, 16, 17, 31, 33, 64, 172, 1000])
@pytest.mark.parametrize("n_out", [1, 5, 33])
def test_every_size_equals_the_twin_bit_for_bit(quant_type: QuantType, n_in: int, n_out: int) -> None:
    for n_tokens in (1, 5):
        weight, x = random(quant_type, n_tokens, n_in, n_out)
        seen = naive.round_activations(x, quant_type.name.lower()).astype(np.float32)
        values = dequantized(weight)
        out = matmul(weight, x, n_threads=2)
        np.testing.assert_array_equal(bits(out), bits(naive.float_product(weight, x)))
        exact = seen.astype(np.float64) @ values.astype(np.float64).T
        np.testing.assert_allclose(out, exact, atol=RELATIVE * max(1.0, np.abs(exact).max()))


@TYPES
@pytest.mark.parametrize("n_tokens", range(1, 14))
def test_a_row_has_the_same_bits_in_any_batch_and_team(quant_type: QuantType, n_tokens: int) -> None:
    weight, x = random(quant_type, n_tokens, 172, 21)
    alone = np.concatenate([matmul(weight, row[None]) for row in x])
    for n_threads in (1, 3):
        np.testing.assert_array_equal(bits(matmul(weight, x, n_threads=n_threads)), bits(alone))


@TYPES
def test_a_prompt_beyond_the_cache_has_the_bits_of_its_rows(quant_type: QuantType) -> None:
    weight, x = random(quant_type, 23, 32768, 38)
    np.testing.assert_array_equal(bits(matmul(weight, x, n_threads=2)), bits(naive.float_product(weight, x)))


@pytest.mark.parametrize("magnitude", [1e-18, 3e-20, 1e-30])
def test_denormal_numbers_are_zeros_to_bf16_weights(magnitude: float) -> None:
    """Sums below, around and above the smallest normal number; weights and activations, too."""
    rng = np.random.default_rng(3)
    w, x = (rng.standard_normal((9, 77)).astype(np.float32) * np.float32(magnitude) for _ in range(2))
    w[:, ::5], x[:, ::7] = 1e-40, 1e-39
    w[3], x[4] = 1e-40, 1e-39
    weight, x[5] = tensor_of(w, BF16), np.float32(1e38)
    out = matmul(weight, x, n_threads=2)
    np.testing.assert_array_equal(bits(out), bits(naive.float_product(weight, x)))
    assert not out[4].any()
    assert not out[:, 3].any()
    np.testing.assert_array_equal(out, naive.without_denormals(out))


def test_other_operations_keep_denormal_numbers_after_a_product_with_bf16_weights() -> None:
    weight, x = random(BF16, 2, 40, 8)
    matmul(weight, x)
    tiny = matmul(tensor_of(np.full((1, 1), 1e-20, np.float32), F32), np.full((1, 1), 1e-20, np.float32))
    assert 0 < tiny[0, 0] < np.finfo(np.float32).smallest_normal


@TYPES
def test_accumulation_adds_to_what_stands_there(quant_type: QuantType) -> None:
    weight, x = random(quant_type, 6, 50, 19)
    onto = np.random.default_rng(9).standard_normal((6, 19)).astype(np.float32)
    added = matmul(weight, x, onto=onto, n_threads=2)
    np.testing.assert_array_equal(bits(added), bits(onto + matmul(weight, x)))


@TYPES
def test_an_activation_that_is_no_number_spoils_its_own_row_only(quant_type: QuantType) -> None:
    weight, x = random(quant_type, 6, 172, 20)
    healthy = matmul(weight, x)
    x[3, 171] = np.nan
    out = matmul(weight, x)
    assert np.isnan(out[3]).all()
    others = [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(bits(out[others]), bits(healthy[others]))


def test_halves_of_every_magnitude_are_weights() -> None:
    """Subnormal halves included, each met by a one: the product is the weight."""
    words = np.arange(0, 0x7C00, dtype=np.uint16)
    values = np.concatenate([words, words | 0x8000]).view(np.float16).astype(np.float32)[:, None]
    out = matmul(tensor_of(values, F16), np.ones((1, 1), np.float32))
    np.testing.assert_array_equal(out[0], values[:, 0])
