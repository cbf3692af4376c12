"""Embedding rows of every type are dequantised exactly."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.quant.tensor import Tensor, dequantize
from llorch.quant.types import SUPPORTED, QuantType
from tests.support import kernel_calls
from tests.support.naive import bits
from tests.support.random_blocks import random_blocks

ALWAYS = ("F32", "F16", "BF16", "Q8_0", "Q4_1", "Q4_K", "Q6_K", "IQ4_NL")
"""Each compiles for half a second; the others share what these try."""


@pytest.mark.parametrize(
    "quant_type",
    [
        pytest.param(quant, id=quant.name, marks=[] if quant.name in ALWAYS else [pytest.mark.slow])
        for quant in SUPPORTED.values()
    ],
)
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_rows_are_dequantised_exactly(quant_type: QuantType, n_blocks: int) -> None:
    n_embd = n_blocks * max(quant_type.block_size, 32)
    made = random_blocks(quant_type, (11, n_embd), np.random.default_rng(n_embd))
    table = Tensor("w", quant_type, made.shape, kernel_calls.guarded(made.data))
    token_ids = [10, 0, 3, 3, 10]
    out = kernel_calls.embed(table, token_ids, n_threads=2)
    np.testing.assert_array_equal(bits(out), bits(dequantize(table)[token_ids]))
