"""The one hook on intermediate values: every dump, comparison and NaN check goes through it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Probe(Protocol):
    """Sees named intermediates while a step runs, in the order they are computed."""

    def wants(self, name: str, layer: int) -> bool:
        """Whether `tap` shall be called for this value; `layer` is -1 outside the layers."""
        ...

    def tap(self, name: str, layer: int, value: NDArray[np.float32]) -> None:
        """Look at `value`, a live view on the engine's buffer.

        Copy what must outlast the call. Writing into `value` replaces the intermediate: the rest of the
        step is computed from what stands there afterwards (stage-local validation relies on that).
        """
        ...


class Recorder:
    """A probe that keeps a copy of every value, by ``"name-layer"`` (plain name outside the layers)."""

    def __init__(self, names: frozenset[str] | None = None) -> None:
        self.names = names
        self.values: dict[str, NDArray[np.float32]] = {}

    def wants(self, name: str, layer: int) -> bool:
        """True for the names asked for, or for all when none were."""
        return self.names is None or name in self.names

    def tap(self, name: str, layer: int, value: NDArray[np.float32]) -> None:
        """Copy `value`."""
        self.values[name if layer < 0 else f"{name}-{layer}"] = value.copy()
