"""Embedding rows of every type are dequantised exactly."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.quant.tensor import dequantize
from llorch.quant.types import SUPPORTED, QuantType
from tests.support import kernel_calls
from tests.support.naive import bits
from tests.support.random_blocks import random_blocks


@pytest.mark.parametrize("quant_type", SUPPORTED.values(), ids=lambda t: t.name)
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_rows_are_dequantised_exactly(quant_type: QuantType, n_blocks: int) -> None:
    n_embd = n_blocks * max(quant_type.block_size, 32)
    table = random_blocks(quant_type, (11, n_embd), np.random.default_rng(n_blocks))
    token_ids = [10, 0, 3, 3, 10]
    out = kernel_calls.embed(table, token_ids, n_threads=2)
    np.testing.assert_array_equal(bits(out), bits(dequantize(table)[token_ids]))
