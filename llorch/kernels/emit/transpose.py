"""Rearranging vectors among each other: transposition, and the sums or maxima of many vectors at once.

Shuffles stay within 128 bits as long as they can, where each is one instruction on every x86 CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from llorch.kernels.emit.values import shuffle

_LANE_BITS = 128


def _item_bits(type_: Any) -> int:
    return 32 if isinstance(type_.element, ir.FloatType) else int(type_.element.width)


def _interleave(builder: Any, a: Any, b: Any, size: int, width: int) -> tuple[Any, Any]:
    """Groups of `size` items of `a` and `b` in turns: first halves and second halves of each `width` items."""
    n, halves = a.type.count, []
    for half in range(2):
        mask = []
        for begin in range(0, n, width):
            for group in range(begin + half * width // 2, begin + (half + 1) * width // 2, size):
                mask += [*range(group, group + size), *range(n + group, n + group + size)]
        halves.append(shuffle(builder, a, b, mask))
    return halves[0], halves[1]


def transpose(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Columns of a square of 16 vectors of 16 items of 16 or 32 bits."""
    n = len(rows)
    in_lane = _LANE_BITS // _item_bits(rows[0].type)
    squares = []
    for begin in range(0, n, in_lane):
        square = list(rows[begin : begin + in_lane])
        for _ in range(in_lane.bit_length() - 1):
            half = in_lane // 2
            pairs = (_interleave(builder, square[i], square[i + half], 1, in_lane) for i in range(half))
            square = [part for pair in pairs for part in pair]
        squares.append(square)
    # Vector j of a square holds columns j, in_lane + j, ... of its rows, one in each lane.
    columns: list[Any] = [None] * n
    for j in range(in_lane):
        lanes = [square[j] for square in squares]
        for _ in range(len(lanes).bit_length() - 1):
            half = len(lanes) // 2
            pairs = (_interleave(builder, lanes[i], lanes[i + half], in_lane, n) for i in range(half))
            lanes = [part for pair in pairs for part in pair]
        columns[j::in_lane] = lanes
    return columns


def fold_lanes(builder: Any, vectors: Sequence[Any], fold: Callable[[Any, Any], Any]) -> Any:
    """Fold the 16 items of each of 4 or 16 vectors of 32 bits into one: a vector of as many results, in order.

    A vector after the other would take four dependent shuffles each, which are most of the time that it takes to find
    the largest of a block of 32; together 16 vectors take 30.
    """
    left = list(vectors)
    for size in (1, 2):  # within lanes: two vectors, then four become one
        left = [fold(*_interleave(builder, left[i], left[i + 1], size, 4)) for i in range(0, len(left), 2)]
    if len(left) == 1:
        (a,) = left
        halves = (shuffle(builder, a, a, range(begin, begin + 8)) for begin in (0, 8))
        folded = fold(*halves)
        quarters = (shuffle(builder, folded, folded, range(begin, begin + 4)) for begin in (0, 4))
        return fold(*quarters)
    low, high = range(8), range(8, 16)
    pairs = [
        fold(*(shuffle(builder, a, b, [*part, *(16 + i for i in part)]) for part in (low, high)))
        for a, b in (left[:2], left[2:])
    ]
    even, odd = ([*range(begin, begin + 4), *range(begin + 8, begin + 12)] for begin in (0, 4))
    a, b = pairs
    return fold(*(shuffle(builder, a, b, [*part, *(16 + i for i in part)]) for part in (even, odd)))
