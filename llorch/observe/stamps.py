"""Time stamps of a forward pass: when each thread began and ended each instruction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = (4 << 20) // 8
"""int64 numbers of a block of memory for stamps that are kept."""


class Stamped(NamedTuple):
    """The stamps of a pass, where they are kept.

    Attributes:
        buffer: int64, the stamps of several passes.
        begin: index of the first.
        n_run: instructions of the pass.
        n_active: threads of that pass.
    """

    buffer: NDArray[np.int64]
    begin: int
    n_run: int
    n_active: int

    @property
    def ticks(self) -> NDArray[np.int64]:
        """int64 (n_run, n_active, 2), a view: the CPU's tick counter at begin and end of every instruction."""
        end = self.begin + self.n_run * self.n_active * 2
        return self.buffer[self.begin : end].reshape(self.n_run, self.n_active, 2)


class Stamps:
    """Room for the stamps of one forward pass, which may be filled again and again.

    Args:
        n_instructions: of the longest program it is used for.
        n_threads: of the team.
        is_observed: whether the observed program is to run, in which what is fused otherwise is written out.

    Attributes:
        n_run: instructions of the pass that filled it last.
        n_active: threads of that pass.
        address: where the kernels write to.
    """

    def __init__(self, n_instructions: int, n_threads: int, *, is_observed: bool = False) -> None:
        self.is_observed = is_observed
        self.n_run = 0
        self.n_active = 0
        self._most = n_instructions * n_threads * 2
        self._use(np.zeros(self._most, np.int64))

    def _use(self, buffer: NDArray[np.int64]) -> None:
        self._buffer, self._begin = buffer, 0
        self.address = int(buffer.ctypes.data)

    @property
    def n_bytes(self) -> int:
        """Memory that the pass that filled it last takes."""
        return self.n_run * self.n_active * 16

    @property
    def last(self) -> Stamped:
        """The pass that filled it last; the next one overwrites it."""
        return Stamped(self._buffer, self._begin, self.n_run, self.n_active)

    @property
    def ticks(self) -> NDArray[np.int64]:
        """Those of `last`."""
        return self.last.ticks

    def keep(self) -> Stamped:
        """The pass that filled it last; the next one is stamped elsewhere. Quick: whoever computes waits for it."""
        kept = self.last
        n_bytes = self.n_bytes
        self._begin += n_bytes // 8
        self.address += n_bytes
        if self._begin + self._most > len(self._buffer):
            self.reserve()
        return kept

    def reserve(self) -> None:
        """Have room for many passes; a page of memory costs most when it is first written to, so all are now."""
        block = np.empty(max(self._most, _BLOCK), np.int64)
        block.fill(0)
        self._use(block)
