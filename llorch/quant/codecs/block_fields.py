"""The fields of a block: float16 numbers, and unsigned integers of one to four bits packed into bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llorch.quant.codecs.floats import Bytes, Floats


def split(data: Bytes, *sizes: int) -> list[Bytes]:
    """The fields of every block, given their sizes in bytes: uint8 (n_blocks, size) each."""
    ends = np.cumsum(sizes)
    return np.split(data.reshape(-1, int(ends[-1])), ends[:-1], axis=1)


def halves(field: Bytes) -> Floats:
    """float16 numbers as float32 (n_blocks, n)."""
    return np.ascontiguousarray(field).view("<f2").astype(np.float32)


def to_halves(values: Floats) -> Bytes:
    """float32 (n_blocks, n) as float16 numbers; what is too large becomes infinite."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ascontiguousarray(values.astype("<f2")).view(np.uint8)


def unpack(field: Bytes, n_bits: int, run: int) -> Bytes:
    """Integers of `n_bits` bits: each run of `run` bytes holds a run of integers in its lowest bits, then the next.

    Args:
        field: uint8 (n_blocks, n_bytes).
        n_bits: 1, 2 or 4.
        run: bytes that are shifted together.

    Returns:
        uint8 (n_blocks, n_bytes * 8 / n_bits).
    """
    shifts = np.arange(0, 8, n_bits, dtype=np.uint8)[:, None]
    shifted = field.reshape(len(field), -1, 1, run) >> shifts
    return (shifted & np.uint8((1 << n_bits) - 1)).reshape(len(field), -1)


def pack(values: Bytes, n_bits: int, run: int) -> Bytes:
    """The inverse of `unpack`; higher bits of `values` must be zero."""
    shifts = np.arange(0, 8, n_bits, dtype=np.uint8)[:, None]
    shifted = values.reshape(len(values), -1, 8 // n_bits, run) << shifts
    packed: Bytes = np.bitwise_or.reduce(shifted, axis=2).reshape(len(values), -1)
    return packed


def scales_at(block_bytes: int, *offsets: int) -> Callable[[Bytes], Floats]:
    """A reader of the float16 scales at `offsets` of each block: bytes to float32 (n_blocks, n_scales)."""
    columns = [at + byte for at in offsets for byte in range(2)]
    return lambda data: halves(data.reshape(-1, block_bytes)[:, columns])
