"""Random sequences for attention: computed by the kernel over a shuffled KV cache, and by float64."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from llorch.model.kv_cache import KVCache
from tests.support import kernel_calls, naive
from tests.support.model_configs import SMALLEST

ABSOLUTE = 3e-6
"""Outputs are means of values around 1; scores of about +-3 in float32 err by some 1e-6."""


class Sequences:
    """Random sequences of given lengths in one cache whose blocks are dealt out in random order.

    Memory that belongs to no sequence yet is full of NaN, so that reading it shows.
    """

    def __init__(
        self, lengths: list[int], n_head: int, n_head_kv: int, head_dim: int, kv_type: str, seed: int = 0
    ) -> None:
        rng = np.random.default_rng([seed, n_head, n_head_kv, head_dim])
        config = dataclasses.replace(SMALLEST, n_head=n_head, n_head_kv=n_head_kv, head_dim=head_dim)
        n_blocks = [KVCache.blocks_for(n) for n in lengths]
        self.cache = KVCache(config, sum(n_blocks) + 3, kv_type)
        self.cache.keys[:] = np.nan
        self.cache.values[:] = np.nan
        order = rng.permutation(sum(n_blocks) + 3)
        self.tables = np.full(
            (len(lengths), max(n_blocks)), 1 << 28, np.int32
        )  # unused entries point nowhere
        for i, n in enumerate(n_blocks):
            self.tables[i, :n], order = order[:n], order[n:]
        shape = (n_head, head_dim), (n_head_kv, head_dim), (n_head_kv, head_dim)
        self.q, self.k, self.v = (
            [rng.standard_normal((n, *s)).astype(np.float32) for n in lengths] for s in shape
        )

    def attend(self, rows: list[tuple[int, int]], n_threads: int = 1) -> NDArray[np.float32]:
        """One batch of (sequence, position) rows."""
        slots, positions = np.array(rows, np.int32).T
        q, k, v = (np.stack([a[s][p] for s, p in rows]) for a in (self.q, self.k, self.v))
        return kernel_calls.attend(
            q, k, v, self.cache, slots, positions, self.tables, n_threads=n_threads, layer=1
        )

    def expected(self, sequence: int, first: int = 0) -> NDArray[np.float64]:
        """The sequence from position `first` on in float64, from keys and values as the cache rounds them."""
        dtype = self.cache.keys.dtype
        k, v = (a[sequence].astype(dtype).astype(np.float64) for a in (self.k, self.v))
        return naive.attend(self.q[sequence][first:].astype(np.float64), k, v, first)


def rows_of(sequence: int, first: int, last: int) -> list[tuple[int, int]]:
    return [(sequence, position) for position in range(first, last)]
