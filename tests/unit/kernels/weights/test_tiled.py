"""Products with weights in tiles, for every block format: right, and the same bits whatever the batch and residence."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.kernels.weights.formats import FORMATS
from llorch.quant.codecs.q8_0 import quantize_activation_q8_0
from llorch.quant.codecs.q8_k import quantize_activation_q8_k
from llorch.quant.tensor import Tensor, dequantize
from llorch.quant.types import SUPPORTED, QuantType
from tests.support.kernel_calls import Floats, matmul
from tests.support.naive import bits
from tests.support.random_blocks import random_blocks

USUAL = ("Q8_0", "Q4_0", "Q4_K", "Q6_K")
"""Types that the default tests try: a bias, an offset, minimums, sub-blocks of 16; each compiles for some seconds."""
TILED = [t for t in SUPPORTED.values() if FORMATS[t].tiling is not None]
TYPES = pytest.mark.parametrize(
    "quant_type",
    [pytest.param(t, id=t.name, marks=() if t.name in USUAL else pytest.mark.slow) for t in TILED],
)
RELATIVE = 3e-6
"""Of the largest output, against float64: float32 accumulation over some dozen blocks, Q8_1's float16 sums apart."""
TOKENS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 23, 24, 25, 27, 33, 41)


def case(quant_type: QuantType, n_tokens: int, n_out: int, n_blocks: int) -> tuple[Tensor, Floats]:
    """Random blocks and activations."""
    n_in = n_blocks * quant_type.block_size
    rng = np.random.default_rng([quant_type.ggml_id, n_out, n_blocks])
    weight = random_blocks(quant_type, (n_out, n_in), rng)
    return weight, rng.standard_normal((n_tokens, n_in)).astype(np.float32)


def in_float64(weight: Tensor, x: Floats) -> np.ndarray:
    """The product with quantised activations, in float64."""
    if weight.type.block_size == 32:
        q, d = quantize_activation_q8_0(x)
        rounded = q * np.repeat(d.astype(np.float64), 32, axis=-1)
    else:
        q, d = quantize_activation_q8_k(x)[:2]
        rounded = q * np.repeat(d.astype(np.float64), 256, axis=-1)
    return rounded @ dequantize(weight).astype(np.float64).T


@TYPES
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "mapped"])
def test_products_equal_float64(quant_type: QuantType, packed: bool) -> None:
    weight, x = case(quant_type, 33, 43, 5)
    expected = in_float64(weight, x)
    # Q8_1 rounds the sums of activations to float16: 11 bits of what minimums add.
    tolerance = 1e-3 if quant_type.name in ("Q4_1", "Q5_1") else RELATIVE
    for n_tokens in (1, 33):
        out = matmul(weight, x[:n_tokens], packed=packed)
        np.testing.assert_allclose(out, expected[:n_tokens], rtol=0, atol=tolerance * np.abs(expected).max())


@TYPES
def test_a_row_has_the_same_bits_in_any_batch_residence_and_team(quant_type: QuantType) -> None:
    for n_out, n_blocks in ((43, 3), (80, 2), (1, 1)):
        weight, x = case(quant_type, 41, n_out, n_blocks)
        alone = np.concatenate([matmul(weight, x[i : i + 1]) for i in range(len(x))])
        for n_tokens in TOKENS:
            for packed in (True, False):
                out = matmul(weight, x[:n_tokens], packed=packed, n_threads=1 + n_tokens % 3)
                np.testing.assert_array_equal(bits(out), bits(alone[:n_tokens]))


@TYPES
def test_accumulation_adds_to_what_stands_there(quant_type: QuantType) -> None:
    weight, x = case(quant_type, 27, 40, 2)
    onto = np.random.default_rng(9).standard_normal((27, 40)).astype(np.float32)
    for n_tokens in (1, 8, 27):
        added = matmul(weight, x[:n_tokens], onto=onto[:n_tokens])
        np.testing.assert_array_equal(bits(added), bits(onto[:n_tokens] + matmul(weight, x[:n_tokens])))


@TYPES
def test_an_activation_that_is_no_number_spoils_its_own_row_only(quant_type: QuantType) -> None:
    weight, x = case(quant_type, 27, 10, 2)
    for n_tokens in (4, 27):
        healthy = matmul(weight, x[:n_tokens])
        spoilt = x[:n_tokens].copy()
        spoilt[1, 40], spoilt[2, 3] = np.nan, np.inf
        out = matmul(weight, spoilt)
        assert not np.isfinite(out[1:3]).any()
        others = [i for i in range(n_tokens) if i not in (1, 2)]
        np.testing.assert_array_equal(bits(out[others]), bits(healthy[others]))


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "mapped"])
def test_the_largest_sums_of_a_sub_block_do_not_overflow(packed: bool) -> None:
    """Q6_K weights of -32 and 31, activations of 127 and -127 over whole rows; AVX2 adds 16 columns in int16."""
    quant_type = next(t for t in TILED if t.name == "Q6_K")
    blocks = np.zeros((16, 2, quant_type.block_bytes), np.uint8)
    blocks[1::2, :, :192] = 0xFF
    blocks[..., 192:208] = 1
    blocks[..., 208:] = np.array([1.0], np.float16).view(np.uint8)
    weight = Tensor("w", quant_type, (16, 512), blocks.ravel())
    x = np.full((27, 512), 127.0, np.float32)
    x[1::2] *= -1
    expected = x.sum(-1, keepdims=True) * np.where(np.arange(16) % 2, 31, -32)
    for n_tokens in (1, 2, 27):
        np.testing.assert_array_equal(matmul(weight, x[:n_tokens], packed=packed), expected[:n_tokens])
