"""Packed integers of variable length, many at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_BYTES = 10


def decode_varints(packed: NDArray[np.uint8]) -> NDArray[np.uint64] | None:
    """The integers that follow each other in `packed`, modulo 2^64; None if the last or a number is malformed.

    Args:
        packed: uint8 (n,).
    """
    ends = np.flatnonzero(packed < 0x80)
    if len(packed) and (not len(ends) or ends[-1] != len(packed) - 1):
        return None
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(ends)]
    sizes = ends - starts + 1
    if len(sizes) and sizes.max() > _MAX_BYTES:
        return None
    values = np.zeros(len(ends), np.uint64)
    for i in range(int(sizes.max(initial=0))):
        has = np.flatnonzero(sizes > i)
        values[has] |= (packed[starts[has] + i] & 0x7F).astype(np.uint64) << np.uint64(7 * i)
    return values
