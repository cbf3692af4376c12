"""A weight in memory: name, type, shape and bytes, and the values that the bytes encode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llorch.quant.types import QuantType

_ROWS_HASHED_AT_ONCE = 4096
"""Those that a `Placement` moves are copied, so not the whole matrix at once."""


class Digest(Protocol):
    """A hash of `hashlib`."""

    def update(self, data: memoryview, /) -> object:
        """Add bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where a matrix of plain numbers lies in `Tensor.data`, if not row after row: as other formats store it.

    Attributes:
        row_order: int32 (n_out,), the stored row of each row.
        n_stored: rows of the stored matrix; more than `n_out` where several matrices share it.
        is_transposed: whether the stored matrix is (n_in, n_stored) instead of (n_stored, n_in).
    """

    row_order: NDArray[np.int32]
    n_stored: int
    is_transposed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A named, typed view on bytes; nothing is copied or decoded.

    Attributes:
        name: GGUF name, e.g. ``"blk.0.attn_q.weight"``.
        type: layout of the bytes.
        shape: NumPy order, row-major: matrices are ``(n_out, n_in)``, vectors ``(n,)``.
        data: uint8, contiguous, possibly read-only (a file map) and at any address; rows follow each other unless
            `placement` says otherwise.
        placement: where the rows lie; None for row after row.
        row_scales: float32 (n_out,), factors of the rows, for types that have them apart.
    """

    name: str
    type: QuantType
    shape: tuple[int, ...]
    data: NDArray[np.uint8]
    placement: Placement | None = None
    row_scales: NDArray[np.float32] | None = None

    @property
    def n_bytes(self) -> int:
        """Size of the rows in bytes."""
        return self.n_elements // self.type.block_size * self.type.block_bytes

    @property
    def n_elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row (the last, contiguous dimension)."""
        return self.type.row_bytes(self.shape[-1])

    @property
    def address(self) -> int:
        """Address of the first byte of `data`; valid while that is alive."""
        return int(self.data.ctypes.data)

    def hash_into(self, digest: Digest) -> None:
        """Add the bytes of all rows in their order, wherever they lie, then the row scales where there are any."""
        n_rows = self.n_elements // self.shape[-1]
        for first in range(0, n_rows, _ROWS_HASHED_AT_ONCE):
            rows = self.rows(first, min(first + _ROWS_HASHED_AT_ONCE, n_rows))
            digest.update(np.ascontiguousarray(rows).data)
        if self.row_scales is not None:
            digest.update(np.ascontiguousarray(self.row_scales).data)

    def rows(self, first: int, last: int) -> NDArray[np.uint8]:
        """Bytes of the rows ``first <= i < last``, row after row: a view on `data`, or with a `placement` a copy."""
        size = self.row_bytes
        if self.placement is None:
            return self.data[first * size : last * size]
        order, n_in = self.placement.row_order[first:last], self.shape[-1]
        stored = self.data.view(f"u{self.type.block_bytes}")
        if self.placement.is_transposed:
            taken = stored.reshape(n_in, self.placement.n_stored)[:, order].T
        else:
            taken = stored.reshape(self.placement.n_stored, n_in)[order]
        return np.ascontiguousarray(taken).reshape(-1).view(np.uint8)

    def all_rows(self) -> NDArray[np.uint8]:
        """`rows` of the whole tensor."""
        return self.rows(0, self.n_elements // self.shape[-1])


def dequantize(tensor: Tensor) -> NDArray[np.float32]:
    """The values of a tensor: float32, of the tensor's shape, a fresh array."""
    values = tensor.type.decode(tensor.all_rows()).reshape(tensor.shape)
    return values if tensor.row_scales is None else values * tensor.row_scales[:, None]


def quantize(values: NDArray[np.float32], quant_type: QuantType) -> NDArray[np.uint8]:
    """Quantise values to `quant_type`, as a converter does when it writes a file.

    Args:
        values: float32 (..., n), n a multiple of the block size.
        quant_type: the type to store as.

    Returns:
        uint8 (n_bytes,), a fresh array.

    Raises:
        ValueError: the rows are not whole blocks, or the type has no encoder in `llorch.quant`.
    """
    quant_type.row_bytes(values.shape[-1])
    if quant_type.encode is None:
        raise ValueError(f"{quant_type.name} has no encoder in the layout table")
    return quant_type.encode(np.ascontiguousarray(values, np.float32).ravel())


def first_bad_scale(tensor: Tensor) -> int | None:
    """Index of the first block with a scale that is NaN or infinite (plain floats: of the first such value; scales of
    rows: of the first such row)."""
    scales = tensor.row_scales
    if scales is None:
        scales = tensor.type.scales(tensor.all_rows())
    bad = ~np.isfinite(scales).reshape(len(scales), -1).all(axis=1)
    return int(bad.argmax()) if bad.any() else None
