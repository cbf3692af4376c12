"""Time stamps of a forward pass: when each thread began and ended each instruction."""

from __future__ import annotations

import bisect
import sys

import numpy as np
from numpy.typing import NDArray

_BLOCK_BYTES = 4 << 20
"""Memory for stamps that are kept is taken in blocks."""


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
        self._most_bytes = n_instructions * n_threads * 16
        self._room_bytes = sys.maxsize
        self._blocks: list[tuple[int, NDArray[np.int64]]] = []
        self._use(np.zeros(self._most_bytes // 8, np.int64))

    def _use(self, block: NDArray[np.int64]) -> None:
        self.address = self._block_begin = int(block.ctypes.data)
        self._last_end = self.address + min(block.nbytes - self._most_bytes, self._room_bytes)
        bisect.insort(self._blocks, (self.address, block))

    @property
    def ticks(self) -> NDArray[np.int64]:
        """Those of the pass that filled it last, as `kept_at`; the next one overwrites them."""
        return self.kept_at(self.address, self.n_run, self.n_active)

    def kept_at(self, address: int, n_run: int, n_active: int) -> NDArray[np.int64]:
        """int64 (n_run, n_active, 2), a view: the CPU's tick counter at begin and end of every instruction.

        Args:
            address: what `keep` said.
            n_run: instructions of that pass.
            n_active: threads of that pass.
        """
        begin, block = self._blocks[bisect.bisect(self._blocks, address, key=lambda block: block[0]) - 1]
        first = (address - begin) // 8
        return block[first : first + n_run * n_active * 2].reshape(n_run, n_active, 2)

    def reserve(self, max_bytes: int = sys.maxsize) -> None:
        """Have room for passes that are kept, as many as fit into `max_bytes`."""
        self._room_bytes = max_bytes
        self._take_block()

    def _take_block(self) -> None:
        """Go on in new memory; a page of it costs most when it is first written to, so all are now."""
        block = np.empty(max(self._most_bytes, _BLOCK_BYTES) // 8, np.int64)
        block.fill(0)
        self._use(block)

    def keep(self) -> int:
        """Have the next pass stamped elsewhere; where the one is that filled it last, 0 if there is no room for it.

        Quick: whoever computes waits for it.
        """
        address = self.address
        end = address + self.n_run * self.n_active * 16
        if end > self._last_end:
            return self._keep_last(end)
        self.address = end
        return address

    def _keep_last(self, end: int) -> int:
        """`keep` where the next pass does not fit into the block, or this one not into the room."""
        address, n_bytes = self.address, end - self._block_begin
        if n_bytes > self._room_bytes:
            return 0
        self._room_bytes -= n_bytes
        self._take_block()
        return address
