"""The header of a GGUF file that is about to be written, and where its tensors go.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llorch.formats.gguf.tensors import TensorInfo
from llorch.quant.types import QuantType

VERSION = 3
UINT32 = 4
"""Number of the value type."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole file before its data: the bytes of its header, padding included, its tensors in order, and its size."""

    header: bytes
    tensors: tuple[TensorInfo, ...]
    n_bytes: int


def text(raw: bytes) -> bytes:
    """A string with its length in front."""
    return number(len(raw), 8) + raw


def number(value: int, n_bytes: int) -> bytes:
    """A whole number that is not negative."""
    return value.to_bytes(n_bytes, "little")


def uint32_pair(key: str, value: int) -> bytes:
    """A metadata key with a uint32."""
    return text(key.encode()) + number(UINT32, 4) + number(value, 4)


def lay_out(
    pairs: Sequence[bytes], tensors: Sequence[tuple[str, QuantType, tuple[int, ...]]], alignment: int
) -> Layout:
    """Place tensors one after the other, each on a multiple of `alignment`.

    Args:
        pairs: metadata keys with their types and values, as in a file.
        tensors: name, type and shape (NumPy order) of each; rows are whole blocks.
        alignment: what ``general.alignment`` among the pairs says, or its default.
    """
    placed = []
    end = 0
    for name, quant, shape in tensors:
        n_bytes = math.prod(shape[:-1]) * quant.row_bytes(shape[-1])
        placed.append(TensorInfo(name, quant.ggml_id, shape, end, n_bytes))
        end += n_bytes + -n_bytes % alignment
    counts = number(len(placed), 8) + number(len(pairs), 8)
    header = b"GGUF" + number(VERSION, 4) + counts + b"".join(pairs) + b"".join(map(_info, placed))
    header += bytes(-len(header) % alignment)
    moved = tuple(replace(tensor, offset=len(header) + tensor.offset) for tensor in placed)
    return Layout(header, moved, len(header) + end)


def _info(tensor: TensorInfo) -> bytes:
    """The entry of the tensor table; `offset` still counts from the start of the data."""
    dims = b"".join(number(dim, 8) for dim in reversed(tensor.shape))
    place = number(tensor.type_id, 4) + number(tensor.offset, 8)
    return text(tensor.name.encode()) + number(len(tensor.shape), 4) + dims + place
