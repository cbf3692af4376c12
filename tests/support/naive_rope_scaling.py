"""RoPE scaling in float64, as the papers have it: linear interpolation, and YaRN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BETA_FAST, BETA_SLOW = 32.0, 1.0
"""Turns over the original context: pairs with more are kept as they are, pairs with fewer interpolated in full."""


@dataclass(frozen=True)
class RopeScaling:
    """How the angles of RoPE are scaled.

    Attributes:
        kind: ``"none"``, ``"linear"`` or ``"yarn"``.
        factor: how many times longer the context became.
        n_ctx_orig: the context before.
        attn_factor: stated by the file, on top of what YaRN brings.
    """

    kind: str
    factor: float
    n_ctx_orig: int
    attn_factor: float

    @property
    def magnitude(self) -> float:
        """Factor on the rotated vectors: equation 22 of the YaRN paper, its square root of 1/t.

        llama.cpp takes 1 as the least where a factor below 1 would give less, and then divides by what ggml
        multiplies with; the product is the paper's for factors above 1, and 1 otherwise.
        """
        return self.attn_factor * (1 + 0.1 * math.log(self.factor) if self.is_longer_yarn else 1)

    @property
    def is_longer_yarn(self) -> bool:
        return self.kind == "yarn" and self.factor > 1

    def divisors(self, n_rot: int, base: float) -> NDArray[np.float64]:
        """What the frequency of each pair is divided by, beside the factors of the file: (n_rot / 2,)."""
        pairs = np.arange(n_rot // 2)
        if self.kind == "none":
            return np.ones(len(pairs))
        if self.kind == "linear":
            return np.full(len(pairs), self.factor)
        first, last = (
            n_rot * math.log(self.n_ctx_orig / (2 * math.pi * turns)) / (2 * math.log(base))
            for turns in (BETA_FAST, BETA_SLOW)
        )
        low, high = max(math.floor(first), 0), min(math.ceil(last), n_rot - 1)
        interpolated = np.clip((pairs - low) / max(high - low, 0.001), 0, 1)
        shares: NDArray[np.float64] = 1 / (interpolated / self.factor + 1 - interpolated)
        return shares


def scaling_of(metadata: Mapping[str, Any]) -> RopeScaling:
    """The scaling that a `llama` file states."""
    at = "llama.rope.scaling."
    factor = metadata.get(at + "factor", metadata.get("llama.rope.scale_linear", 0.0))
    return RopeScaling(
        kind=metadata.get(at + "type", "linear"),
        factor=float(factor) or 1.0,
        n_ctx_orig=metadata.get(at + "original_context_length", metadata["llama.context_length"]),
        attn_factor=metadata.get(at + "attn_factor", 1.0),
    )
