"""Embedding rows of every type are dequantised exactly."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.quant.tensor import dequantize
from llorch.quant.types import SUPPORTED, QuantType
from tests.support import kernel_calls
from tests.support.naive import bits


@pytest.mark.parametrize("quant_type", SUPPORTED.values(), ids=lambda t: t.name)
@pytest.mark.parametrize("n_embd", [32, 96])
def test_rows_are_dequantised_exactly(quant_type: QuantType, n_embd: int) -> None:
    rng = np.random.default_rng(n_embd)
    table = kernel_calls.tensor_of(rng.standard_normal((11, n_embd)).astype(np.float32), quant_type)
    token_ids = [10, 0, 3, 3, 10]
    out = kernel_calls.embed(table, token_ids, n_threads=2)
    np.testing.assert_array_equal(bits(out), bits(dequantize(table)[token_ids]))
