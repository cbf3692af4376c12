"""A weight in memory: name, type, shape and bytes, and the values that the bytes encode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.quant.types import QuantType


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A named, typed view on bytes; nothing is copied or decoded.

    Attributes:
        name: GGUF name, e.g. ``"blk.0.attn_q.weight"``.
        type: layout of the bytes.
        shape: NumPy order, row-major: matrices are ``(n_out, n_in)``, vectors ``(n,)``.
        data: uint8 (n_bytes,), contiguous, possibly read-only (a file map).
    """

    name: str
    type: QuantType
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    @property
    def n_bytes(self) -> int:
        """Size of the data in bytes."""
        return int(self.data.nbytes)

    @property
    def n_elements(self) -> int:
        """Number of elements."""
        n = 1
        for dim in self.shape:
            n *= dim
        return n

    @property
    def row_bytes(self) -> int:
        """Bytes of one row (the last, contiguous dimension)."""
        return self.type.row_bytes(self.shape[-1])

    @property
    def address(self) -> int:
        """Address of the first byte; valid while `data` is alive."""
        return int(self.data.ctypes.data)


def dequantize(tensor: Tensor) -> NDArray[np.float32]:
    """The values of a tensor: float32, of the tensor's shape, a fresh array."""
    return tensor.type.decode(tensor.data).reshape(tensor.shape)


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
    """Index of the first block with a scale that is NaN or infinite (plain floats: of the first such value)."""
    scales = tensor.type.scales(tensor.data)
    bad = ~np.isfinite(scales).reshape(len(scales), -1).all(axis=1)
    return int(bad.argmax()) if bad.any() else None
