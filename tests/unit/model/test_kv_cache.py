"""The arrays of the KV cache: sizes."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.model.kv_cache import KVCache
from tests.support.model_configs import SMALLEST


def test_blocks_hold_32_positions() -> None:
    assert [KVCache.blocks_for(n) for n in (0, 1, 32, 33, 64, 65)] == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(("kv_type", "dtype"), [("f32", np.float32), ("f16", np.float16)])
def test_the_memory_stated_is_the_memory_taken(kv_type: str, dtype: type) -> None:
    cache = KVCache(SMALLEST, 5, kv_type)
    assert cache.keys.dtype == cache.values.dtype == dtype
    assert cache.n_bytes == cache.keys.nbytes + cache.values.nbytes
    assert cache.n_bytes == 5 * KVCache.bytes_per_block(SMALLEST, kv_type)
