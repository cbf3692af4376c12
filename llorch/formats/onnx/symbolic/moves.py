"""Operations that only move elements: the same for numbers and for activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from llorch.errors import OnnxError
from llorch.formats.onnx.graph import Node
from llorch.formats.onnx.symbolic.values import Numbers

MOST_ELEMENTS = 1 << 23
"""Of one value; the first numbers of a real graph need far fewer."""

Move = Callable[[Numbers], Numbers]


def require_size(shape: Sequence[int], node: Node) -> None:
    """Refuse a value that is too large, before there is memory for it."""
    if min(shape, default=0) < 0 or math.prod(shape) > MOST_ELEMENTS:
        raise OnnxError(
            f"{node.label}: makes a value of the shape {tuple(shape)}, which is too large to follow"
        )


def moves_of(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    """What makes each output of `node` of its first input.

    Args:
        node: an operation of `MOVES`.
        rest: the other inputs.
        shape: of the first input.
    """
    return MOVES[node.op_type](node, rest, shape)


def integers(node: Node, rest: list[Numbers | None], position: int, name: str) -> list[int] | None:
    """Numbers that are an input in newer versions of an operation, an attribute in older ones."""
    if position < len(rest) and (given := rest[position]) is not None:
        return [int(number) for number in np.ravel(given)]
    value = node.attributes.get(name)
    return [int(number) for number in value] if isinstance(value, list) else None


def integer(node: Node, name: str, default: int) -> int:
    """An attribute."""
    value = node.attributes.get(name, default)
    if not isinstance(value, int):
        raise OnnxError(f"{node.label}: attribute {name} is no whole number")
    return value


def _reshape(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    target = integers(node, rest, 0, "shape") or []
    if not integer(node, "allowzero", 0):
        target = [shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(target)]
    return [lambda part: part.reshape(target)]


def _flatten(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    axis = integer(node, "axis", 1) % (len(shape) + 1)
    return [lambda part: part.reshape(math.prod(shape[:axis]), math.prod(shape[axis:]))]


def _transpose(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    order = integers(node, [], 0, "perm")
    return [lambda part: part.transpose(order)]


def _unsqueeze(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    axes = integers(node, rest, 0, "axes") or []
    return [lambda part: np.expand_dims(part, tuple(axes))]


def _squeeze(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    axes = integers(node, rest, 0, "axes")
    return [lambda part: np.squeeze(part, None if axes is None else tuple(axes))]


def _expand(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    target = np.broadcast_shapes(tuple(integers(node, rest, 0, "shape") or ()), shape)
    require_size(target, node)
    return [lambda part: np.broadcast_to(part, target)]


def _tile(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    counts = integers(node, rest, 0, "repeats") or []
    require_size([size * n for size, n in zip(shape, counts, strict=True)], node)
    return [lambda part: np.tile(part, counts)]


def _slice(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    starts, ends = integers(node, rest, 0, "starts") or [], integers(node, rest, 1, "ends") or []
    axes, steps = integers(node, rest, 2, "axes"), integers(node, rest, 3, "steps")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    slices = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # Going down, an end before the first element is spelled as a number far below; slices need None there.
        last = None if step < 0 and end < -shape[axis] else end
        slices[axis] = slice(start, last, step)
    return [lambda part: part[tuple(slices)]]


def _split(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    axis = integer(node, "axis", 0)
    sizes = integers(node, rest, 0, "split")
    if sizes is None:
        n = integer(node, "num_outputs", len(node.outputs))
        step = -(-shape[axis] // n)
        sizes = [min(step, shape[axis] - i * step) for i in range(n)]
    if sum(sizes) != shape[axis] or min(sizes, default=0) < 0:
        raise OnnxError(f"{node.label}: parts of {sizes} are not the {shape[axis]} elements of axis {axis}")
    ends = np.cumsum(sizes).tolist()
    return [_part(axis, end - size, end) for end, size in zip(ends, sizes, strict=True)]


def _part(axis: int, first: int, last: int) -> Move:
    return lambda part: np.take(part, np.arange(first, last), axis)


def _gather(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    axis, indices = integer(node, "axis", 0), np.asarray(rest[0])
    require_size([*indices.shape, math.prod(shape) // max(1, shape[axis])], node)
    return [lambda part: np.take(part, indices, axis)]


def _gather_elements(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    axis, indices = integer(node, "axis", 0), np.asarray(rest[0])
    return [lambda part: np.take_along_axis(part, indices % shape[axis], axis)]


def _gather_nd(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    n_batch, indices = integer(node, "batch_dims", 0), np.asarray(rest[0])
    grids = np.ogrid[tuple(slice(size) for size in shape[:n_batch])] if n_batch else ()
    wide = tuple(grid.reshape(grid.shape + (1,) * (indices.ndim - 1 - n_batch)) for grid in grids)
    return [lambda part: part[(*wide, *(indices[..., i] for i in range(indices.shape[-1])))]]


def _identity(node: Node, rest: list[Numbers | None], shape: tuple[int, ...]) -> list[Move]:
    return [lambda part: part]


MOVES: Mapping[str, Callable[[Node, list[Any], tuple[int, ...]], list[Move]]] = {
    "Dropout": _identity,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Identity": _identity,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
