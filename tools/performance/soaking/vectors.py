"""What vectors of an answer must be: as many as texts, of one size, of length 1."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tools.performance.soaking.wire import SoakError

LENGTH_ERROR = 1e-5
"""Of a float32 vector of length 1: the sum of some thousand rounded squares."""


def vectors_of(values: Sequence[str | Sequence[float]], n_texts: int) -> NDArray[np.float64]:
    """The vectors of an answer.

    Args:
        values: of each text numbers, or float32 as little-endian bytes in base64.
        n_texts: of the request.

    Returns:
        float64 (n_texts, n_embd).

    Raises:
        SoakError: there are not as many, they differ in size, or a length is not 1.
    """
    rows = [
        np.frombuffer(base64.b64decode(one), "<f4").astype(np.float64)
        if isinstance(one, str)
        else np.array(one, float)
        for one in values
    ]
    if len(rows) != n_texts or len({row.shape for row in rows}) != 1:
        raise SoakError(f"expected {n_texts} vectors of one size, got {[row.shape for row in rows][:5]}")
    for row in rows:
        length = math.sqrt(float(row @ row))
        if not abs(length - 1) <= LENGTH_ERROR:
            raise SoakError(f"expected vectors of length 1, got {length}")
    return np.stack(rows)
