"""Products of int8 weights with a scale a row: the twin's bits, whatever the batch, residence, team and row order."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from llorch.kernels import paths
from llorch.quant.tensor import Placement, Tensor, dequantize
from llorch.quant.types import I8
from tests.support import naive_int8_rows
from tests.support.kernel_calls import Floats, embed, guarded, matmul
from tests.support.naive import bits
from tests.support.naive_int8_rows import random_tensor

SIZES = ((1, 32), (17, 96), (83, 352), (48, 64))
TOKENS = (1, 2, 3, 4, 5, 8, 9, 16, 27)


def case(n_tokens: int, n_out: int, n_in: int, placement: Placement | None = None) -> tuple[Tensor, Floats]:
    """Random weights directly before a page that must not be read, and activations."""
    rng = np.random.default_rng([n_tokens, n_out, n_in])
    weight = random_tensor(n_out, n_in, rng, placement)
    weight = dataclasses.replace(weight, data=guarded(weight.data))
    return weight, (rng.standard_normal((n_tokens, n_in)) * 3).astype(np.float32)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "mapped"])
def test_products_have_the_bits_of_the_twin_in_every_batch_and_team(packed: bool) -> None:
    for n_out, n_in in SIZES:
        weight, x = case(27, n_out, n_in)
        expected = naive_int8_rows.matmul(weight, x)
        for n_tokens in TOKENS:
            out = matmul(weight, x[:n_tokens], packed=packed, n_threads=1 + n_tokens % 3)
            np.testing.assert_array_equal(bits(out), bits(expected[:n_tokens]))


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "mapped"])
def test_rows_that_lie_in_another_order_are_found(packed: bool) -> None:
    order = np.random.default_rng(5).permutation(50)[:43].astype(np.int32)
    weight, x = case(5, 43, 64, Placement(order, 50))
    expected = naive_int8_rows.matmul(weight, x)
    for n_tokens in (1, 2, 5):
        np.testing.assert_array_equal(
            bits(matmul(weight, x[:n_tokens], packed=packed)), bits(expected[:n_tokens])
        )


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "mapped"])
def test_the_largest_products_do_not_overflow(packed: bool) -> None:
    """Weights and activations of -128 everywhere: what AVX2's products of bytes could neither negate nor add."""
    weight = Tensor("w", I8, (16, 1024), np.full(16 * 1024, 0x80, np.uint8), None, np.ones(16, np.float32))
    x = np.full((4, 1024), -127.5, np.float32)  # the scale is 1
    for n_tokens in (1, 4):
        out = matmul(weight, x[:n_tokens], packed=packed)
        assert (out == 128 * 128 * 1024).all()


def test_a_product_worked_out_by_hand() -> None:
    """Scale of the token: 127.5 / 127.5 = 1, so that 127.5 becomes 127, and -2.5 and 3.5 the even integers beside."""
    data = np.zeros((2, 32), np.int8)
    data[0, :3], data[1, :3] = [2, -128, 10], [1, 1, 1]
    weight = Tensor("w", I8, (2, 32), data.reshape(-1).view(np.uint8), None, np.array([0.5, 2], np.float32))
    x = np.zeros((1, 32), np.float32)
    x[0, :3] = [127.5, -2.5, 3.5]
    assert matmul(weight, x).tolist() == [[0.5 * (2 * 127 + 128 * 2 + 40), 2 * (127 - 2 + 4)]]


def test_products_equal_float64() -> None:
    weight, x = case(9, 83, 352)
    q, scales = naive_int8_rows.quantize_rows(x)
    expected = (q * scales.astype(np.float64)) @ dequantize(weight).astype(np.float64).T
    np.testing.assert_allclose(matmul(weight, x), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_accumulation_adds_to_what_stands_there() -> None:
    weight, x = case(9, 40, 64)
    onto = np.random.default_rng(9).standard_normal((9, 40)).astype(np.float32)
    for n_tokens in (1, 9):
        for packed in (True, False):
            added = matmul(weight, x[:n_tokens], packed=packed, onto=onto[:n_tokens])
            np.testing.assert_array_equal(bits(added), bits(onto[:n_tokens] + matmul(weight, x[:n_tokens])))


def test_an_activation_that_is_no_number_spoils_its_own_row_only() -> None:
    weight, x = case(9, 10, 64)
    spoilt = x.copy()
    spoilt[1, 40], spoilt[2, 3] = np.nan, np.inf
    out = matmul(weight, spoilt)
    assert not np.isfinite(out[1:3]).any()
    others = [0, *range(3, 9)]
    np.testing.assert_array_equal(bits(out[others]), bits(matmul(weight, x)[others]))


def test_the_order_of_llama_cpp_is_any_order_since_sums_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "sums", lambda: "llama.cpp")
    weight, x = case(3, 17, 96)
    np.testing.assert_array_equal(bits(matmul(weight, x)), bits(naive_int8_rows.matmul(weight, x)))


def test_rows_of_an_embedding_table_are_dequantised_exactly() -> None:
    table, _ = case(1, 11, 96)
    token_ids = [10, 0, 3, 3, 10]
    np.testing.assert_array_equal(
        bits(embed(table, token_ids, n_threads=2)), bits(dequantize(table)[token_ids])
    )
