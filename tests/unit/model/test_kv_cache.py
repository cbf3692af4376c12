"""The pool of KV blocks: sizes, handing out, giving back."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.errors import LlorchError
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


def test_no_block_is_ever_handed_out_twice() -> None:
    cache = KVCache(SMALLEST, 10)
    first, second = cache.allocate(4), cache.allocate(5)
    assert len({*first, *second}) == 9
    assert {*first, *second} <= set(range(10))
    assert cache.n_free == 1
    with pytest.raises(LlorchError, match="2 KV blocks wanted, 1 of 10"):
        cache.allocate(2)
    assert cache.n_free == 1
    cache.release(first)
    assert cache.n_free == 5
    assert not set(cache.allocate(5)) & set(second)
    assert cache.allocate(0) == []
