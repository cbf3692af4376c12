"""Products of any bytes in blocks of integers equal llama.cpp's order bit for bit, in any batch and team."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.kernels import paths
from llorch.quant.tensor import Tensor
from llorch.quant.types import SUPPORTED, QuantType
from tests.support import kernel_calls, naive_blocks
from tests.support.naive import comparable
from tests.support.random_blocks import HALVES

TYPES = [quant for quant in SUPPORTED.values() if quant.name in HALVES and quant.name != "Q8_0"]


def any_blocks(rng: np.random.Generator, quant: QuantType, n_out: int, n_blocks: int) -> Tensor:
    """Any bytes a hostile file may hold behind finite scales."""
    blocks = rng.integers(0, 256, (n_out * n_blocks, quant.block_bytes), dtype=np.uint8)
    for at in HALVES[quant.name]:
        scales = rng.integers(0, 1 << 16, len(blocks), dtype=np.uint16)
        scales[(scales & 0x7C00) == 0x7C00] = 0x0001
        blocks[:, at : at + 2] = scales[:, None].view(np.uint8)
    return Tensor("w", quant, (n_out, n_blocks * quant.block_size), kernel_calls.guarded(blocks.ravel()))


@pytest.mark.slow
@pytest.mark.parametrize("quant", TYPES, ids=lambda quant: quant.name)
@given(
    n_blocks=st.integers(1, 9), n_out=st.integers(1, 40), n_tokens=st.integers(1, 9), magnitude=st.integers(-12, 8),
    n_threads=st.integers(1, 4), accumulate=st.booleans(), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=40)
def test_products_of_any_bytes_equal_llama_cpp_s_order(
    quant: QuantType,
    n_blocks: int,
    n_out: int,
    n_tokens: int,
    magnitude: int,
    n_threads: int,
    accumulate: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    weight = any_blocks(rng, quant, n_out, n_blocks)
    x = (rng.standard_normal((n_tokens, weight.shape[1])) * 10.0**magnitude).astype(np.float32)
    onto = rng.standard_normal((n_tokens, n_out)).astype(np.float32) if accumulate else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "sums", lambda: "llama.cpp")
        out = kernel_calls.matmul(weight, x, n_threads=n_threads, onto=onto)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = naive_blocks.matmul(weight, x)
        expected = expected if onto is None else expected + onto
    np.testing.assert_array_equal(comparable(out), comparable(expected))
