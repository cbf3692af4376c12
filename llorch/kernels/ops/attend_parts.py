"""Parts of a long context: each is summed for itself, by whichever thread, and they are added in order of position.

What a part gives for a query is the highest of its scores, the sum of the weights relative to that, and the sum of
weighted values. It stands in a thread's scratch, or, where threads share a query's context, in `PartBuffers` until
the last part is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numpy import float32

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.scalars import as_float32, as_int32
from llorch.kernels.emit.softmax import exp_of_difference
from llorch.kernels.emit.values import F32, I32, Int, load, loop, splat, store, vector
from llorch.kernels.emit.vectors import larger
from llorch.kernels.jit import inlined, kernel
from llorch.kernels.layout import ATTENTION_PART, FLOAT_LANES, padded_head_dim
from llorch.machine.memory import aligned_zeros

MOST_ROW_PARTS = 1024
"""Pairs of a row and a part that threads may compute for each other in one step: one row of 262,144 positions, or 64
rows of 4096. What is beyond is computed by one thread for each KV head."""


def part_bytes(n_head: int, n_head_kv: int, head_dim: int) -> int:
    """Bytes that `PartBuffers` take once they have been full."""
    return MOST_ROW_PARTS * (n_head * (padded_head_dim(head_dim) + 2) * 4 + n_head_kv * 8)


class PartBuffers:
    """What parts give, for all query heads of up to `MOST_ROW_PARTS` pairs of a row and a part.

    Attributes:
        outputs: float32 (pairs * n_head, padded head_dim), sums of weighted values.
        states: float32 (pairs * n_head, 2), highest score and sum of weights.
        done: int64 (pairs, n_head_kv), parts done of the group that begins there, 0 between operations.
    """

    def __init__(self, n_head: int, n_head_kv: int, head_dim: int) -> None:
        self.outputs = aligned_zeros((MOST_ROW_PARTS * n_head, padded_head_dim(head_dim)), np.float32)
        self.states = aligned_zeros((MOST_ROW_PARTS * n_head, 2), np.float32)
        self.done = aligned_zeros((MOST_ROW_PARTS, n_head_kv), np.int64)


@emitted()
def add_part(builder: Any, outputs: Int, state: Int, part_outputs: Int, part_state: Int, padded: Int) -> None:
    """Add a query's next part to what the parts before it gave.

    Args (addresses unless said otherwise):
        outputs, state: float32 (padded,) and (2,), of the parts before; changed.
        part_outputs, part_state: the same of the part.
        padded: a number.
    """
    (highest, total), (part_highest, part_total) = (
        [load(F32, address, i * 4, align=4) for i in range(2)] for address in (state, part_state)
    )
    both = larger(builder, part_highest, highest)
    before, now = (
        exp_of_difference(builder, splat(builder, builder.fsub(x, both), 4)) for x in (highest, part_highest)
    )
    old, new = (builder.extract_element(x, ir.Constant(I32, 0)) for x in (before, now))
    store(both, state, align=4)
    store(builder.fadd(builder.fmul(total, old), builder.fmul(part_total, new)), state, 4, align=4)
    old, new = splat(builder, old, FLOAT_LANES), splat(builder, new, FLOAT_LANES)

    def add(i: Int, _: list[Any]) -> list[Any]:
        at, part_at = outputs + i * (FLOAT_LANES * 4), part_outputs + i * (FLOAT_LANES * 4)
        mixed, part = (load(vector(F32, FLOAT_LANES), address, align=4) for address in (at, part_at))
        store(builder.fadd(builder.fmul(mixed, old), builder.fmul(part, new)), at, align=4)
        return []

    loop(padded >> (FLOAT_LANES.bit_length() - 1), [], add)


@inlined
def store_output(outputs, state, out, head_dim):
    """Divide a query's weighted sums by its sum of weights, into its row."""
    mixed, target = as_float32(outputs), as_float32(out)
    inverse = float32(1) / as_float32(state)[1]
    for c in range(head_dim):
        target[c] = mixed[c] * inverse


@kernel
def keep_part(n, padded, outputs, state, kept_outputs, kept_state):
    """Copy what a part gave for `n` queries."""
    mixed, kept = as_float32(outputs), as_float32(kept_outputs)
    for c in range(n * padded):
        kept[c] = mixed[c]
    maximum_and_sum, kept_maximum_and_sum = as_float32(state), as_float32(kept_state)
    for c in range(2 * n):
        kept_maximum_and_sum[c] = maximum_and_sum[c]


@kernel
def merge_parts(h, n_rows, outputs, states, part_queries):
    """Add the parts of all queries of a group in order, and write them into its rows.

    Args:
        h: the queries (`attend_queries.Heads`).
        n_rows: rows of the group.
        outputs, states: addresses of what the first part gave, (n_rows * n_rep, ...); changed.
        part_queries: queries from one part's to the next one's.
    """
    position = as_int32(h.positions)
    for i in range(n_rows * h.n_rep):
        to, state = outputs + i * h.padded * 4, states + i * 8
        # A row that does not see a part has nothing there.
        for part in range(1, position[i // h.n_rep] // ATTENTION_PART + 1):
            skipped = part * part_queries
            add_part(to, state, to + skipped * h.padded * 4, state + skipped * 8, h.padded)
        out = h.out + i // h.n_rep * h.out_stride + i % h.n_rep * h.head_dim * 4
        store_output(to, state, out, h.head_dim)
