"""Weights in blocks of integers: twins bit for bit in llama.cpp's order, and the check of scales."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.kernels import paths
from llorch.kernels.weights.formats import FORMATS
from llorch.quant.tensor import Tensor
from llorch.quant.types import SUPPORTED, QuantType
from tests.support import kernel_calls, naive_blocks
from tests.support.naive import bits
from tests.support.random_blocks import HALVES, random_blocks

TYPES = [quant for quant in SUPPORTED.values() if quant.name in HALVES and quant.name != "Q8_0"]
EVERY_TYPE = pytest.mark.parametrize("quant", TYPES, ids=lambda quant: quant.name)


@pytest.fixture
def llama_cpp_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs written in a test take the twins."""
    monkeypatch.setattr(paths, "sums", lambda: "llama.cpp")


def guarded(weight: Tensor) -> Tensor:
    return Tensor(weight.name, weight.type, weight.shape, kernel_calls.guarded(weight.data))


def random(quant: QuantType, n_tokens: int, n_out: int, n_blocks: int) -> tuple[Tensor, np.ndarray]:
    rng = np.random.default_rng([n_tokens, n_out, n_blocks])
    weight = random_blocks(quant, (n_out, n_blocks * quant.block_size), rng)
    return guarded(weight), rng.standard_normal((n_tokens, weight.shape[1])).astype(np.float32) * 3


def test_every_type_but_q8_0_is_here() -> None:
    assert len(TYPES) == 11
    assert {quant.name for quant in FORMATS} == {t.name for t in TYPES} | {"F32", "F16", "BF16", "I8", "Q8_0"}


@EVERY_TYPE
def test_a_product_equals_llama_cpp_s_order_in_every_bit(quant: QuantType, llama_cpp_order: None) -> None:
    for n_tokens, n_out, n_blocks in ((1, 1, 1), (2, 17, 2), (5, 9, 3), (1, 4, 7)):
        weight, x = random(quant, n_tokens, n_out, n_blocks)
        out = kernel_calls.matmul(weight, x, n_threads=2)
        np.testing.assert_array_equal(bits(out), bits(naive_blocks.matmul(weight, x)))


def test_a_q4_k_product_worked_out_by_hand(llama_cpp_order: None) -> None:
    """Scale 1, minimum 0.5; group 0 has integer scale 2 and minimum 3, the others none; column 0 holds 5."""
    block = np.zeros(144, np.uint8)
    block[:4] = np.array([1.0, 0.5], np.float16).view(np.uint8)
    block[4], block[8], block[16] = 2, 3, 5
    x = np.zeros((1, 256), np.float32)
    x[0, :2] = [-127.0, 10.0]
    weight = Tensor("w", next(t for t in TYPES if t.name == "Q4_K"), (1, 256), block)
    assert kernel_calls.matmul(weight, x).tolist() == [[2 * 5 * -127 - 0.5 * 3 * (-127 + 10)]]


@EVERY_TYPE
def test_the_check_finds_every_scale_and_minimum_that_is_no_number(quant: QuantType) -> None:
    weight, _ = random(quant, 1, 1, 5)
    scan = FORMATS[quant].scan
    assert scan(weight.address, 5) == 0
    for at in HALVES[quant.name]:
        for bad in (np.nan, np.inf, -np.inf):
            blocks = weight.data.reshape(5, -1).copy()
            blocks[4, at : at + 2] = np.array([bad], np.float16).view(np.uint8)
            assert scan(int(blocks.ctypes.data), 5) != 0
            assert scan(int(blocks.ctypes.data), 4) == 0


@EVERY_TYPE
def test_the_scratch_of_a_thread_holds_a_decoded_row(quant: QuantType, llama_cpp_order: None) -> None:
    """Integers, two float32 a block, a scale and a minimum for 16 columns."""
    for n_blocks in (1, 2, 3, 20):
        n = n_blocks * quant.block_size
        assert FORMATS[quant].scratch_bytes(n, is_packed=False) >= n + 8 * n_blocks + 2 * (n // 16)
