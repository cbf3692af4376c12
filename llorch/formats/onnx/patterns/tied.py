"""Whether the output matrix is the embedding table: the same constant, or a copy of it, as some exporters make."""

from __future__ import annotations

import numpy as np

from llorch.formats.onnx.symbolic.values import Matrix

_ROWS_AT_ONCE = 1 << 10


def is_tied(embedding: Matrix, head: Matrix) -> bool:
    """Whether a head (n_embd, n_vocab) holds the numbers of the table (n_vocab, n_embd)."""
    if embedding.tensor is head.tensor:
        return embedding.is_flipped != head.is_flipped
    if embedding.tensor.dtype != head.tensor.dtype or embedding.shape != head.shape[::-1]:
        return False
    table, other = _bits(embedding), _bits(head).T
    few = slice(None, None, max(1, len(table) // 8))
    if not np.array_equal(table[few], other[few]):
        return False
    return all(
        np.array_equal(table[first : first + _ROWS_AT_ONCE], other[first : first + _ROWS_AT_ONCE])
        for first in range(0, len(table), _ROWS_AT_ONCE)
    )


def _bits(matrix: Matrix) -> np.ndarray:
    stored = matrix.tensor
    bits = stored.data.view(f"u{stored.data.size // max(1, stored.n_elements)}").reshape(stored.shape)
    return bits.T if matrix.is_flipped else bits
