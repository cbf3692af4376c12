"""The arrays of the KV cache: sizes, and what lies beside what."""

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


def test_a_block_of_all_layers_is_one_piece_of_memory() -> None:
    """So its first token touches few new pages; else every layer comes to a new one in the same step."""
    cache = KVCache(SMALLEST, 5, "f16")
    for array in (cache.keys, cache.values):
        assert len(array) > 1
        assert array[:, 3].flags.c_contiguous
        assert array[:, 4].ctypes.data == array[:, 3].ctypes.data + array[:, 3].nbytes
