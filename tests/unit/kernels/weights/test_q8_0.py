"""Q8_0 products: bit for bit the twin, in both residences, whatever the batch and the team."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from llorch.quant.tensor import Tensor
from llorch.quant.types import Q8_0
from tests.support import naive
from tests.support.extreme_products import extreme_product
from tests.support.kernel_calls import matmul, tensor_of
from tests.support.naive import bits

RESIDENCES = pytest.mark.parametrize("packed", [True, False], ids=["packed", "mapped"])
RELATIVE = 2e-6
"""Of the largest output, against float64: float32 accumulation over a few dozen blocks."""


def random(n_tokens: int, n_in: int, n_out: int, seed: int = 0) -> tuple[Tensor, np.ndarray]:
    rng = np.random.default_rng([seed, n_tokens, n_in, n_out])
    weight = tensor_of(rng.standard_normal((n_out, n_in)).astype(np.float32), Q8_0)
    return weight, rng.standard_normal((n_tokens, n_in)).astype(np.float32)


@RESIDENCES
def test_a_product_worked_out_by_hand(packed: bool) -> None:
    """Weights and activations that quantise exactly: amax 127 means a scale of 1."""
    w, x = np.zeros((2, 32), np.float32), np.zeros((1, 32), np.float32)
    w[0, :3], w[1, 31], x[0, :3], x[0, 31] = [127, -2, 3], 127, [10, 127, -1], 5
    out = matmul(tensor_of(w, Q8_0), x, packed=packed)
    assert out.tolist() == [[1270 - 254 - 3, 635]]


@RESIDENCES
@pytest.mark.parametrize("n_tokens", [7, 16])
def test_the_most_negative_weight_and_largest_activations_do_not_overflow(
    n_tokens: int, packed: bool
) -> None:
    weight, x, expected = extreme_product(n_tokens)
    np.testing.assert_array_equal(matmul(weight, x, packed=packed), expected)


@RESIDENCES
@pytest.mark.parametrize("n_tokens", range(1, 41))
def test_every_number_of_tokens_equals_the_twin_bit_for_bit(n_tokens: int, packed: bool) -> None:
    weight, x = random(n_tokens, 96, 83)
    np.testing.assert_array_equal(bits(matmul(weight, x, packed=packed)), bits(naive.matmul_q8_0(weight, x)))


@RESIDENCES
@pytest.mark.parametrize("n_in", [32, 64, 288, 1024])
@pytest.mark.parametrize("n_out", [1, 15, 16, 17, 31, 47, 64, 80, 145])
def test_every_size_equals_the_twin_bit_for_bit(n_out: int, n_in: int, packed: bool) -> None:
    for n_tokens in (1, 7, 26):
        weight, x = random(n_tokens, n_in, n_out)
        expected = naive.matmul_q8_0(weight, x)
        np.testing.assert_array_equal(bits(matmul(weight, x, packed=packed)), bits(expected))


@pytest.mark.parametrize("n_in", [32, 1024])
def test_products_equal_float64_of_the_gguf_package(n_in: int) -> None:
    """The same with an independent dequantiser: nothing but the quantised activations is llorch's."""
    weight, x = random(6, n_in, 50)
    rows = weight.data.reshape(50, -1)
    values = np.asarray(gguf.dequantize(rows, gguf.GGMLQuantizationType.Q8_0), np.float64)
    expected = naive.round_activations(x, "q8_0") @ values.T
    np.testing.assert_allclose(matmul(weight, x), expected, atol=RELATIVE * np.abs(expected).max())


@RESIDENCES
@pytest.mark.parametrize("n_tokens", [1, 2, 4, 6, 11, 16, 22, 41])
def test_a_row_has_the_same_bits_in_any_batch_and_team(n_tokens: int, packed: bool) -> None:
    weight, x = random(41, 160, 200)
    alone = np.concatenate([matmul(weight, x[i : i + 1], packed=packed) for i in range(n_tokens)])
    for n_threads in (1, 2, 3, 4):
        together = matmul(weight, x[:n_tokens], packed=packed, n_threads=n_threads)
        np.testing.assert_array_equal(bits(together), bits(alone))


@RESIDENCES
@pytest.mark.parametrize("n_tokens", [1, 3, 8, 16, 27])
def test_accumulation_adds_to_what_stands_there(n_tokens: int, packed: bool) -> None:
    weight, x = random(n_tokens, 64, 40)
    onto = np.random.default_rng(9).standard_normal((n_tokens, 40)).astype(np.float32)
    added = matmul(weight, x, packed=packed, onto=onto, n_threads=2)
    np.testing.assert_array_equal(bits(added), bits(onto + matmul(weight, x, packed=packed)))


def test_zero_rows_and_zero_scales_give_zero() -> None:
    weight, x = random(3, 64, 32)
    x[1] = 0
    out = matmul(weight, x)
    assert (out[1] == 0).all()
    assert (matmul(tensor_of(np.zeros((5, 64), np.float32), Q8_0), x) == 0).all()


@pytest.mark.parametrize("n_tokens", [8, 27])
def test_an_activation_that_is_no_number_spoils_its_own_row_only(n_tokens: int) -> None:
    weight, x = random(n_tokens, 64, 40)
    healthy = matmul(weight, x)
    x[2, 40] = np.nan
    x[5, 3] = np.inf
    out = matmul(weight, x)
    assert np.isnan(out[2]).all()
    assert not np.isfinite(out[5]).any()
    others = [i for i in range(n_tokens) if i not in (2, 5)]
    np.testing.assert_array_equal(bits(out[others]), bits(healthy[others]))
