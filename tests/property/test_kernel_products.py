"""Products of arbitrary sizes and contents equal their twins bit for bit, in any residence and team."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.quant.tensor import Tensor
from llorch.quant.types import BF16, F16, F32, Q8_0, QuantType
from tests.support import kernel_calls, naive
from tests.support.naive import comparable

SIZES = {"n_out": st.integers(1, 100), "n_tokens": st.integers(1, 40), "seed": st.integers(0, 2**32 - 1)}
TEAM = {"packed": st.booleans(), "n_threads": st.integers(1, 4), "accumulate": st.booleans()}
MAGNITUDES = st.integers(-12, 8)


def random_blocks(rng: np.random.Generator, n_out: int, n_blocks: int) -> Tensor:
    """Any bytes a hostile file may hold behind finite scales."""
    blocks = rng.integers(0, 256, (n_out, n_blocks, 34), dtype=np.uint8)
    scales = rng.integers(0, 1 << 16, (n_out, n_blocks), dtype=np.uint16)
    scales[(scales & 0x7C00) == 0x7C00] = 0x0001
    blocks[..., :2] = scales[..., None].view(np.uint8)
    return Tensor("w", Q8_0, (n_out, n_blocks * 32), kernel_calls.guarded(blocks.ravel()))


@given(n_blocks=st.integers(1, 20), magnitude=MAGNITUDES, **SIZES, **TEAM)
@settings(max_examples=60)
def test_q8_0_products_of_any_bytes_equal_the_twin(
    n_blocks: int,
    magnitude: int,
    n_out: int,
    n_tokens: int,
    seed: int,
    packed: bool,
    n_threads: int,
    accumulate: bool,
) -> None:
    rng = np.random.default_rng(seed)
    weight = random_blocks(rng, n_out, n_blocks)
    x = (rng.standard_normal((n_tokens, n_blocks * 32)) * 10.0**magnitude).astype(np.float32)
    onto = rng.standard_normal((n_tokens, n_out)).astype(np.float32) if accumulate else None
    out = kernel_calls.matmul(weight, x, packed=packed, n_threads=n_threads, onto=onto)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = naive.matmul_q8_0(weight, x)
        expected = expected if onto is None else expected + onto
    np.testing.assert_array_equal(comparable(out), comparable(expected))


@given(
    quant_type=st.sampled_from([F32, F16, BF16]), n_in=st.integers(1, 300), magnitude=MAGNITUDES,
    accumulate=st.booleans(), n_threads=st.integers(1, 4), **SIZES,
)  # fmt: skip
@settings(max_examples=60)
def test_float_products_equal_the_twin(
    quant_type: QuantType,
    n_in: int,
    magnitude: int,
    n_out: int,
    n_tokens: int,
    seed: int,
    n_threads: int,
    accumulate: bool,
) -> None:
    rng = np.random.default_rng(seed)
    weight = kernel_calls.tensor_of(rng.standard_normal((n_out, n_in)).astype(np.float32), quant_type)
    x = (rng.standard_normal((n_tokens, n_in)) * 10.0 ** min(magnitude, 3)).astype(np.float32)
    onto = rng.standard_normal((n_tokens, n_out)).astype(np.float32) if accumulate else None
    out = kernel_calls.matmul(weight, x, n_threads=n_threads, onto=onto)
    expected = naive.float_product(weight, x)
    expected = expected if onto is None else expected + onto
    np.testing.assert_array_equal(comparable(out), comparable(expected))
