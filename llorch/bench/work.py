"""What an operation has to do, whoever counts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["integer", "bfloat", "float"]
"""Whose peak bounds it: that of the products of integers, of BF16 in pairs, or of float32."""


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one instruction in one step.

    Attributes:
        shape: what it works on, for people.
        n_bytes: weights, cache and activations read or written.
        n_macs: multiply-adds that the formulas have; what the kernels compute beyond them does not count.
        kind: whose peak bounds them.
        n_streamed: bytes among `n_bytes` that come from memory: weights, and the cache's keys and values, unless the
            CPU's last cache holds all of them. Activations are small, and stay in caches.
    """

    shape: str
    n_bytes: int
    n_macs: int
    kind: Kind
    n_streamed: int = 0
