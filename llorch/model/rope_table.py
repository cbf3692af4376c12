"""Cosines and sines of RoPE for every position, grown as positions are needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.kernels.ops.rope import fill_rope_table
from llorch.model.config import ModelConfig


def rope_table(
    config: ModelConfig, freqs: NDArray[np.float32] | None, first: int, last: int
) -> NDArray[np.float32]:
    """Table for positions ``first <= p < last``.

    Args:
        config: RoPE constants; absurd ones give NaN, which the logits will show.
        freqs: float32 (n_rot / 2,), divisors of the angles, or None.

    Returns:
        float32 (last - first, n_rot / 2, 2), cosine and sine.

    Source: `kernels.ops.rope.fill_rope_table`.
    """
    half = config.n_rot // 2
    table = np.empty((last - first, half, 2), np.float32)
    divisors = None if freqs is None else np.ascontiguousarray(freqs, np.float32)
    with np.errstate(over="ignore"):
        factors = np.array([config.rope_freq_base, config.rope_freq_scale, config.rope_attn_factor])
        base, scale, magnitude = (int(bits) for bits in factors.astype(np.float32).view(np.int32))
    address, out = 0 if divisors is None else int(divisors.ctypes.data), int(table.ctypes.data)
    fill_rope_table(first, last, half, base, scale, magnitude, config.n_ctx_orig_yarn, address, out)
    return table


class RopeTable:
    """The table of one model; `ensure` extends it.

    Attributes:
        values: float32 (n_positions, n_rot // 2, 2).
        address: of position 0; changes when the table grows.
    """

    def __init__(self, config: ModelConfig, freqs: NDArray[np.float32] | None) -> None:
        self._config = config
        self._freqs = freqs
        self.values = np.empty((0, config.n_rot // 2, 2), np.float32)
        self.address = 0

    def ensure(self, n_positions: int) -> None:
        """Make `values` cover at least `n_positions` positions."""
        have = len(self.values)
        if n_positions > have:
            wanted = max(n_positions, 2 * have, 256)
            more = rope_table(self._config, self._freqs, have, wanted)
            self.values = np.concatenate([self.values, more])
            self.address = int(self.values.ctypes.data)
