"""Keys and values go where attention reads them, alone and right after RoPE, whatever rows come together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels.kv_types import KV_TYPES
from llorch.kernels.layout import KV_BLOCK_SIZE, padded_head_dim
from llorch.kernels.ops.store import rope_store, store
from llorch.kernels.program import Program
from tests.support import naive_rows
from tests.support.kernel_calls import guarded, guarded_rows, run
from tests.support.naive import bits

Floats = NDArray[np.float32]
N_BLOCKS = 12
TABLES = np.array([[5, 2, 7], [1, 0, 6], [9, 8, 3], [10, 4, 11]], np.int32)
"""Blocks of four sequences."""

PROMPT = [(0, 0, 70)]
MIXED = [(0, 3, 40), (1, 17, 21), (2, 31, 1), (3, 0, 1)]
HALVES = [(1, 16, 16), (0, 0, 16), (2, 64, 1), (3, 32, 17)]
"""Rows of a step: (sequence, first position, rows)."""


def rows_of(parts: list[tuple[int, int, int]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Slots and positions."""
    slots = np.concatenate([np.full(n, slot, np.int32) for slot, _, n in parts])
    return slots, np.concatenate([np.arange(p, p + n, dtype=np.int32) for _, p, n in parts])


def random_floats(rng: np.random.Generator, *shape: int) -> Floats:
    """Some of every magnitude that float16 keeps, loses or cannot hold."""
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 6, shape)).astype(np.float32)


class Stored:
    """A cache that keys and values were written to.

    Args:
        k, v: float32 (n_rows, n_head_kv, head_dim).
        q: float32 (n_rows, n_head, head_dim), to be rotated, like k, by `table` before.
        layer: of two.
    """

    def __init__(
        self, kv_type: str, k: Floats, v: Floats, parts: list[tuple[int, int, int]], q: Floats | None = None,
        table: Floats | None = None, layer: int = 1, n_threads: int = 2,
    ) -> None:  # fmt: skip
        kv, (n_rows, n_head_kv, head_dim) = KV_TYPES[kv_type], k.shape
        self.slots, self.positions = rows_of(parts)
        self.places = [
            (TABLES[s, p // KV_BLOCK_SIZE], p % KV_BLOCK_SIZE)
            for s, p in zip(self.slots, self.positions, strict=True)
        ]
        shape = (2, N_BLOCKS, n_head_kv)
        self.keys = np.zeros((*shape, head_dim, KV_BLOCK_SIZE), kv.dtype)
        self.values = np.zeros((*shape, KV_BLOCK_SIZE, padded_head_dim(head_dim)), kv.dtype)
        k_rows, v_rows = (guarded_rows(x.reshape(n_rows, -1)) for x in (k, v))
        given: list[Any] = [guarded(a) for a in (self.slots, self.positions, TABLES)]
        program, fields = Program(), {}
        if q is None:
            store(program, layer, k_rows, v_rows, n_head_kv, head_dim, kv)
        else:
            assert table is not None
            q_rows, given_table = guarded_rows(q.reshape(n_rows, -1)), guarded(table)
            fields = {"ROPE_TABLE": int(given_table.ctypes.data)}
            n_head, n_rot = q.shape[1], 2 * table.shape[1]
            rope_store(program, layer, q_rows, k_rows, v_rows, n_head, n_head_kv, head_dim, n_rot, kv)
        run(program, n_rows, n_threads=n_threads, SLOTS=given[0].ctypes.data, POSITIONS=given[1].ctypes.data,
            TABLES=given[2].ctypes.data, TABLE_STRIDE=given[2].strides[0], KEYS=self.keys.ctypes.data,
            VALUES=self.values.ctypes.data, LAYER_KEY_BYTES=self.keys.strides[0],
            LAYER_VALUE_BYTES=self.values.strides[0], BLOCK_KEY_BYTES=self.keys.strides[1],
            BLOCK_VALUE_BYTES=self.values.strides[1], **fields)  # fmt: skip
        self.q = None if q is None else q_rows.view(n_rows).reshape(q.shape)

    def assert_holds(self, k: Floats, v: Floats) -> None:
        """These and nothing else are in layer 1, in every bit."""
        for cache, rows, columns in ((self.keys, k, True), (self.values, v, False)):
            expected = naive_rows.stored(rows, self.places, N_BLOCKS, cache.dtype, columns=columns)
            np.testing.assert_array_equal(cache[1].view(np.uint8), expected.view(np.uint8))
            assert not cache[0].any()


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("parts", [PROMPT, MIXED, HALVES])
@pytest.mark.parametrize(("n_head_kv", "head_dim"), [(3, 64), (2, 40), (1, 7), (5, 16)])
def test_rows_lie_where_their_blocks_are(
    kv_type: str, parts: list[tuple[int, int, int]], n_head_kv: int, head_dim: int
) -> None:
    rng = np.random.default_rng(head_dim)
    n_rows = len(rows_of(parts)[0])
    k, v = (random_floats(rng, n_rows, n_head_kv, head_dim) for _ in range(2))
    Stored(kv_type, k, v, parts).assert_holds(k, v)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("parts", [PROMPT, MIXED])
@pytest.mark.parametrize(
    ("n_head", "n_head_kv", "head_dim", "n_rot"), [(9, 3, 64, 64), (4, 2, 48, 40), (2, 1, 7, 6)]
)
def test_keys_are_stored_as_rope_leaves_them(
    kv_type: str, parts: list[tuple[int, int, int]], n_head: int, n_head_kv: int, head_dim: int, n_rot: int
) -> None:
    rng = np.random.default_rng(n_rot)
    _, positions = rows_of(parts)
    q, k, v = (random_floats(rng, len(positions), n, head_dim) for n in (n_head, n_head_kv, n_head_kv))
    table = rng.standard_normal((96, n_rot // 2, 2)).astype(np.float32)
    made = Stored(kv_type, k, v, parts, q, table)
    made.assert_holds(naive_rows.rotate(k, table, positions), v)
    np.testing.assert_array_equal(bits(made.q), bits(naive_rows.rotate(q, table, positions)))


def test_neighbours_that_are_not_16_positions_of_one_sequence_are_not_taken_for_them() -> None:
    rng = np.random.default_rng(3)
    parts = [(0, 0, 8), (1, 8, 8), (0, 16, 8), (0, 28, 8), (2, 0, 15), (3, 15, 1)]
    k, v = (random_floats(rng, 48, 2, 16) for _ in range(2))
    Stored("f16", k, v, parts, n_threads=1).assert_holds(k, v)


@pytest.mark.parametrize("n_rows", [1, 16])
def test_every_float16_is_stored_and_what_lies_halfway_between_two(n_rows: int) -> None:
    halves = np.arange(0x7C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    following = np.where(np.isinf(halves[1:]), np.float32(65536), halves[1:])
    middle = (halves[:-1] + following) / 2  # exact in float32
    around = [np.nextafter(middle, np.float32(towards)) for towards in (0, np.inf)]
    numbers = np.concatenate([halves, middle, *around])
    numbers = np.concatenate([numbers, -numbers, np.array([np.inf, -np.inf, 1e9, -1e-9], np.float32)])
    width = 8192 // n_rows
    for k in np.resize(numbers, (-(-len(numbers) // 16384), n_rows, 2, width)):
        Stored("f16", k, -k, [(0, 0, n_rows)]).assert_holds(k, -k)


@pytest.mark.parametrize("n_rows", [1, 16])
def test_what_is_no_number_stays_none(n_rows: int) -> None:
    k = np.ones((n_rows, 1, 32), np.float32)
    k.view(np.uint32)[-1, 0, [3, 20]] = 0x7F800001, 0xFFC01234
    made = Stored("f16", k, k, [(0, 0, n_rows)], layer=0)
    for cache in (made.keys, made.values):
        assert np.isnan(cache).sum() == 2
        assert set(cache.view(np.uint16)[np.isnan(cache)].tolist()) == {0x7E00, 0xFE00}
