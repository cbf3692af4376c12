"""Attention of all queries of a task: those of some rows that share a KV head, over one part of the context after the
other.

The part is the outer loop: its keys and values stay in the cache while all queries go over them, eight at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy import float32, inf

from llorch.kernels.emit.scalars import as_float32, as_int32, as_int64
from llorch.kernels.emit.softmax import make_softmax
from llorch.kernels.jit import inlined, kernel
from llorch.kernels.kv_types import KVType
from llorch.kernels.layout import ATTENTION_PART, FLOAT_LANES, GROUP_ROWS, KV_BLOCK_SIZE
from llorch.kernels.ops.attend_blocks import BLOCKS, FEW_QUERIES, QUERIES, make_scores, make_values
from llorch.kernels.ops.attend_parts import add_part, store_output

_PART_BLOCKS = ATTENTION_PART // KV_BLOCK_SIZE

_VALUE_BLOCKS = 4
"""Blocks whose values are summed at a time: half a part and its weights fit into a first-level cache of 32 KB, where
the second four of eight queries find them again."""


class Scratch(NamedTuple):
    """A thread's scratch: addresses, and at last its end. ``n`` queries are those of GROUP_ROWS rows, made up to a
    multiple of QUERIES.

    queries: float32 (n, head_dim). outputs, state: float32 (n, padded head_dim) and (n, 2), sums of weighted values,
    highest score and sum of weights, of all parts so far. positions: int32 (n,). part_outputs, part_state: float32
    (QUERIES, ...), as outputs and state, of the part after them. scores: float32 (blocks of a part, QUERIES, 32).
    factors, highest: float32 (blocks of a part, and one more, QUERIES). limits: int32 (QUERIES,), positions of a part
    that a query sees. keys, values, next_keys: int64 (blocks of a part,), addresses of blocks.
    """

    queries: int
    outputs: int
    state: int
    positions: int
    part_outputs: int
    part_state: int
    scores: int
    factors: int
    highest: int
    limits: int
    keys: int
    values: int
    next_keys: int
    end: int


def _areas(scratch: int, n_rep: int, head_dim: int) -> Scratch:
    n = (GROUP_ROWS * n_rep + QUERIES - 1) // QUERIES * QUERIES
    padded_bytes = (head_dim + FLOAT_LANES - 1) // FLOAT_LANES * FLOAT_LANES * 4
    outputs = scratch + n * head_dim * 4
    state = outputs + n * padded_bytes
    positions = state + n * 8
    part_outputs = positions + n * 4
    part_state = part_outputs + QUERIES * padded_bytes
    scores = part_state + QUERIES * 8
    factors = scores + _PART_BLOCKS * QUERIES * KV_BLOCK_SIZE * 4
    highest = factors + _PART_BLOCKS * QUERIES * 4
    limits = highest + (_PART_BLOCKS + 1) * QUERIES * 4
    keys = limits + QUERIES * 4
    values = keys + _PART_BLOCKS * 8
    next_keys = values + _PART_BLOCKS * 8
    return Scratch(
        scratch, outputs, state, positions, part_outputs, part_state, scores, factors, highest, limits, keys, values,
        next_keys, next_keys + _PART_BLOCKS * 8)  # fmt: skip


scratch_areas = inlined(_areas)


def scratch_bytes(n_rep: int, head_dim: int) -> int:
    """Bytes of scratch that each thread needs, with `n_rep` query heads for each KV head."""
    return _areas(0, n_rep, head_dim).end


class Heads(NamedTuple):
    """Query heads of some rows of one sequence that share a KV head; query `i` is head ``i % n_rep`` of row ``i //
    n_rep``.

    q, out: addresses of the first row's heads; q_stride, out_stride: bytes per row; positions: address of the rows'
    int32 positions.
    """

    q: int
    q_stride: int
    out: int
    out_stride: int
    positions: int
    n_rep: int
    head_dim: int
    padded: int


class Blocks(NamedTuple):
    """The blocks of one sequence: address of its int32 block table; addresses and strides of keys and values."""

    table: int
    keys: int
    key_bytes: int
    values: int
    value_bytes: int


@kernel
def _load_queries(h, n, area):
    """Copy `n` queries and their positions into scratch, and up to a multiple of QUERIES zeros that see as much as the
    last."""
    to, position, row_position = as_float32(area.queries), as_int32(area.positions), as_int32(h.positions)
    for m in range(n):
        source = as_float32(h.q + m // h.n_rep * h.q_stride + m % h.n_rep * h.head_dim * 4)
        for c in range(h.head_dim):
            to[m * h.head_dim + c] = source[c]
        position[m] = row_position[m // h.n_rep]
    n_made_up = (n + QUERIES - 1) // QUERIES * QUERIES
    for m in range(n, n_made_up):
        position[m] = position[n - 1]
    for c in range(n * h.head_dim, n_made_up * h.head_dim):
        to[c] = float32(0)


@kernel
def _begin_part(n, padded, outputs, state):
    """Begin the outputs and softmax states of `n` queries."""
    out, maximum_and_sum = as_float32(outputs), as_float32(state)
    for m in range(n):
        maximum_and_sum[2 * m] = float32(-inf)
        maximum_and_sum[2 * m + 1] = float32(0)
    for c in range(n * padded):
        out[c] = float32(0)


@kernel
def store_outputs(h, n, outputs, state):
    """Write `n` finished queries into their rows."""
    for m in range(n):
        out = h.out + m // h.n_rep * h.out_stride + m % h.n_rep * h.head_dim * 4
        store_output(outputs + m * h.padded * 4, state + m * 8, out, h.head_dim)


@kernel
def _look_up(blocks, begin, end, n_positions, area):
    """Write the addresses of the blocks of a part, and of the next part's keys or, where there are none, of memory
    that is at hand."""
    block_of = as_int32(blocks.table)
    keys, values, next_keys = as_int64(area.keys), as_int64(area.values), as_int64(area.next_keys)
    for b in range((end - begin + KV_BLOCK_SIZE - 1) // KV_BLOCK_SIZE):
        at = begin // KV_BLOCK_SIZE + b
        keys[b] = blocks.keys + block_of[at] * blocks.key_bytes
        values[b] = blocks.values + block_of[at] * blocks.value_bytes
        if begin + ATTENTION_PART + b * KV_BLOCK_SIZE < n_positions:
            next_keys[b] = blocks.keys + block_of[at + _PART_BLOCKS] * blocks.key_bytes
        else:
            next_keys[b] = values[b]


def _make_attend_part(n: int, kv: KVType, *, is_ahead: bool) -> Any:
    """A kernel that sums `n` queries over the first `n_seen` positions of a part.

    If `is_ahead`, the scores bring this part's values into the cache and the values the next part's keys, so that
    memory is read all the time although keys come first and values then: two threads read 14.6 GB/s of one sequence of
    3,500 positions (1.1B) where they read 9.8. Scores that fetch their own values and the next two blocks' keys
    reached 12.6. Only the first queries of a task do it: what is in the cache takes 5 % longer with it.
    """
    scores_of_some = make_scores(n, BLOCKS, kv, is_ahead=is_ahead)
    scores_of_one = make_scores(n, 1, kv, is_ahead=is_ahead)
    softmax, mix = make_softmax(n), make_values(n, kv, is_ahead=is_ahead)

    @kernel
    def attend_part(h, area, queries, n_whole, n_seen, scale, outputs, state):
        n_blocks = (n_seen + KV_BLOCK_SIZE - 1) // KV_BLOCK_SIZE
        b = 0
        while b < n_blocks:
            at, to = b * 8, area.scores + b * (n * KV_BLOCK_SIZE * 4)
            if b + BLOCKS <= n_blocks:
                scores_of_some(queries, h.head_dim, area.keys + at, area.values + at, to)
                b += BLOCKS
            else:
                scores_of_one(queries, h.head_dim, area.keys + at, area.values + at, to)
                b += 1
        softmax(area.scores, n_whole, n_blocks, area.limits, scale, state, area.factors, area.highest)
        for first in range(0, n_blocks, _VALUE_BLOCKS):
            n_now = min(_VALUE_BLOCKS, n_blocks - first)
            n_last = min(KV_BLOCK_SIZE, n_seen - (first + n_now - 1) * KV_BLOCK_SIZE)
            mix(
                area.scores + first * (n * KV_BLOCK_SIZE * 4), n_now, n_last, area.values + first * 8,
                area.next_keys + first * 8, h.padded, area.factors + first * (n * 4), outputs)  # fmt: skip

    return attend_part


def _make_attend_some(kv: KVType) -> Any:
    """A kernel for up to QUERIES queries and the part that `_look_up` has found."""
    next_8 = _make_attend_part(QUERIES, kv, is_ahead=False)
    first_8, first_4, first_1 = (_make_attend_part(n, kv, is_ahead=True) for n in (QUERIES, FEW_QUERIES, 1))

    @kernel
    def attend_some(h, first, n, begin, n_seen, scale, area, outputs, state):
        """Sum queries ``first <= m < first + n`` over the `n_seen` positions from `begin` on, from 0."""
        position, limits = as_int32(area.positions), as_int32(area.limits)
        n_whole = n_seen // KV_BLOCK_SIZE
        for m in range(QUERIES):
            limits[m] = position[first + m] + 1 - begin
            n_whole = min(n_whole, max(limits[m], 0) // KV_BLOCK_SIZE)
        _begin_part(QUERIES, h.padded, outputs, state)
        queries = area.queries + first * h.head_dim * 4
        if n > FEW_QUERIES and first > 0:
            next_8(h, area, queries, n_whole, n_seen, scale, outputs, state)
        elif n > FEW_QUERIES:
            first_8(h, area, queries, n_whole, n_seen, scale, outputs, state)
        elif n > 1:
            first_4(h, area, queries, n_whole, n_seen, scale, outputs, state)
        else:
            first_1(h, area, queries, n_whole, n_seen, scale, outputs, state)

    return attend_some


def make_attend_queries(kv: KVType) -> Any:
    """A kernel ``attend_queries(h, n, blocks, scale, area, first_part, last_part)``.

    It sums the `n` queries of `h` over those positions of parts ``first_part <= part < last_part`` that they see, into
    `area`.
    """
    attend_some = _make_attend_some(kv)

    @kernel
    def attend_queries(h, n, blocks, scale, area, first_part, last_part):
        _load_queries(h, n, area)
        position = as_int32(area.positions)
        n_positions = min(int(position[n - 1]) + 1, last_part * ATTENTION_PART)
        for begin in range(first_part * ATTENTION_PART, n_positions, ATTENTION_PART):
            end = min(begin + ATTENTION_PART, n_positions)
            _look_up(blocks, begin, end, n_positions, area)
            for first in range(0, n, QUERIES):
                n_now = min(QUERIES, n - first)
                n_seen = max(min(int(position[first + n_now - 1]) + 1, end) - begin, 0)
                outputs, state = area.outputs + first * h.padded * 4, area.state + first * 8
                if begin == first_part * ATTENTION_PART:
                    attend_some(h, first, n_now, begin, n_seen, scale, area, outputs, state)
                elif n_seen > 0:
                    attend_some(
                        h, first, n_now, begin, n_seen, scale, area, area.part_outputs, area.part_state
                    )
                    for m in range(n_now):
                        if position[first + m] >= begin:
                            add_part(
                                outputs + m * h.padded * 4, state + m * 8, area.part_outputs + m * h.padded * 4,
                                area.part_state + m * 8, h.padded)  # fmt: skip

    return attend_queries
