"""Cosines and sines of RoPE for every position, grown as positions are needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.model.config import ModelConfig


@np.errstate(over="ignore", invalid="ignore")  # absurd constants give NaN, which the logits will show
def rope_table(
    config: ModelConfig, freqs: NDArray[np.float32] | None, first: int, last: int
) -> NDArray[np.float32]:
    """Table for positions ``first <= p < last``.

    The angle of pair i is the float32 product ``p * s * s * ... * s`` (i factors, each rounded), because
    llama.cpp computes it that way and the rounding is visible at large positions.

    Args:
        config: RoPE constants.
        freqs: float32 (n_rot / 2,), divisors of the angles, or None.

    Returns:
        float32 (last - first, n_rot / 2, 2), cosine and sine.

    Source: llama.cpp, `ggml_rope_cache_init` without YaRN; within 1 ulp (its cosf and sinf).
    """
    half = config.n_rot // 2
    step = np.float32(
        np.power(
            np.float64(np.float32(config.rope_freq_base)),
            np.float64(np.float32(-2.0) / np.float32(config.n_rot)),
        )
    )
    theta = np.arange(first, last).astype(np.float32)
    table = np.empty((last - first, half, 2), np.float32)
    scale = np.float32(config.rope_freq_scale)
    for i in range(half):
        angle = theta / freqs[i] if freqs is not None else theta
        exact = (angle * scale).astype(np.float64)
        table[:, i, 0] = np.cos(exact)
        table[:, i, 1] = np.sin(exact)
        theta = theta * step
    return table


class RopeTable:
    """The table of one model; `ensure` extends it."""

    def __init__(self, config: ModelConfig, freqs: NDArray[np.float32] | None) -> None:
        self._config = config
        self._freqs = freqs
        self.values = np.empty((0, config.n_rot // 2, 2), np.float32)

    def ensure(self, n_positions: int) -> None:
        """Make `values` cover at least `n_positions` positions."""
        have = len(self.values)
        if n_positions > have:
            wanted = max(n_positions, 2 * have, 256)
            more = rope_table(self._config, self._freqs, have, wanted)
            self.values = np.concatenate([self.values, more])

    @property
    def address(self) -> int:
        """Address of position 0; changes when the table grows."""
        return int(self.values.ctypes.data)
