"""Products on the tile unit: what it is told, worked-out sums, and the bits of the twin and of few tokens."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.kernels.tiles.amx_registers import FEW_TOKENS, HAS_AMX, MANY_TOKENS, config_bytes
from llorch.quant.tensor import Tensor
from llorch.quant.types import Q8_0
from tests.support import naive
from tests.support.kernel_calls import guarded, matmul, tensor_of
from tests.support.naive import bits

NEEDS_TILES = pytest.mark.skipif(not HAS_AMX, reason="this CPU, its system or LLORCH_CPU does not offer AMX")
RESIDENCES = pytest.mark.parametrize("packed", [True, False], ids=["packed", "mapped"])


@pytest.mark.parametrize("depth", [16, 32])
@pytest.mark.parametrize("n_tokens", [MANY_TOKENS, FEW_TOKENS])
def test_registers_have_the_shapes_of_one_block(n_tokens: int, depth: int) -> None:
    config = np.frombuffer(bytes(config_bytes(n_tokens, depth)), np.uint8)
    assert config[0] == 1
    row_bytes, rows = config[16:32].view("<u2"), config[48:56]
    shapes = list(zip(rows.tolist(), row_bytes.tolist(), strict=True))
    sums, tokens, weights, unused = (n_tokens, 64), (n_tokens, depth), (depth // 4, 64), (0, 0)
    assert shapes == [sums, sums, sums, unused, tokens, weights, tokens, weights]


@NEEDS_TILES
@RESIDENCES
def test_sums_worked_out_by_hand(packed: bool) -> None:
    """Scales of 1 (amax 127) and one weight and activation per place: out[t, r] = sum of b^2 (t + 1) (r - 8)."""
    n_blocks = 3
    blocks = np.zeros((17, n_blocks, 34), np.uint8)
    blocks[..., :2] = np.array([1.0], np.float16).view(np.uint8)
    x = np.zeros((18, n_blocks * 32), np.float32)
    for block in range(n_blocks):
        column = 7 * block + 5
        blocks[:, block, 2 + column] = ((block + 1) * (np.arange(17) - 8)).astype(np.int8).view(np.uint8)
        x[:, block * 32 + column] = (block + 1) * (np.arange(18) + 1)
        x[:, block * 32 + 31] = 127  # no weight stands there
    weight = Tensor("w", Q8_0, (17, n_blocks * 32), guarded(blocks.ravel()))
    expected = 14 * np.outer(np.arange(18) + 1, np.arange(17) - 8)
    np.testing.assert_array_equal(matmul(weight, x, packed=packed), expected.astype(np.float32))


@NEEDS_TILES
@RESIDENCES
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("n_in", [64, 96, 256, 352])
@pytest.mark.parametrize("n_out", [1, 16, 63, 64, 65, 170])
def test_every_rest_of_tokens_equals_the_twin_bit_for_bit(
    n_out: int, n_in: int, accumulate: bool, packed: bool
) -> None:
    rng = np.random.default_rng([n_out, n_in])
    weight = tensor_of(rng.standard_normal((n_out, n_in)).astype(np.float32), Q8_0)
    x = rng.standard_normal((47, n_in)).astype(np.float32)
    onto = rng.standard_normal((47, n_out)).astype(np.float32)
    product = naive.matmul_q8_0(weight, x)
    expected = onto + product if accumulate else product
    for n_tokens in (8, 9, 10, 11, 13, 15, 16, 17, 24, 25, 31, 32, 40, 41, 47):
        start = onto[:n_tokens] if accumulate else None
        out = matmul(weight, x[:n_tokens], packed=packed, onto=start, n_threads=1 + n_tokens % 2)
        np.testing.assert_array_equal(bits(out), bits(expected[:n_tokens]))


@NEEDS_TILES
def test_many_tokens_have_the_bits_that_each_has_alone() -> None:
    rng = np.random.default_rng(4)
    weight = tensor_of(rng.standard_normal((100, 1120)).astype(np.float32), Q8_0)
    x = (rng.standard_normal((35, 1120)) * 10.0 ** rng.integers(-6, 6, (35, 1))).astype(np.float32)
    alone = np.concatenate([matmul(weight, row[None]) for row in x])
    np.testing.assert_array_equal(bits(matmul(weight, x)), bits(alone))
