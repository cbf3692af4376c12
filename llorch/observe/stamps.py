"""Time stamps of a forward pass: when each thread began and ended each instruction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CURRENT, NEXT, END, ADVANCE, OF_THREAD = range(5)
"""Indices into a `Stamps.log`, int64: addresses of the pass under way (0: no room for it), of the next one, and of the
room's end; bytes from pass to pass, and from thread to thread."""

N_RUN, N_ACTIVE = range(2)
"""Indices into the int64s at the begin of a pass: instructions, and threads."""

HEAD_BYTES = 64
"""Of a pass, before the stamps of its first thread. Threads write to cache lines of their own."""

_LINE = HEAD_BYTES // 8
_PAGE_BYTES = 4096


class Stamps:
    """Room for the stamps of forward passes, which kernels fill one after the other.

    Args:
        n_instructions: of the longest program it is used for.
        n_threads: of the team.
        max_bytes: most memory for passes that are all kept; None where each pass may overwrite the one before.
        is_observed: whether the observed program is to run, in which what is fused otherwise is written out.

    Attributes:
        address: of `log`, int64 (5,), for the step (`kernels.step.STAMPS`).
        n_room: passes that are kept.
    """

    def __init__(
        self, n_instructions: int, n_threads: int, max_bytes: int | None = None, *, is_observed: bool = False
    ) -> None:
        self.is_observed = is_observed
        self._per_thread = -(-2 * n_instructions // _LINE) * _LINE
        n_pass = _LINE + n_threads * self._per_thread
        self.n_room = 1 if max_bytes is None else max_bytes // (8 * n_pass)
        n = max(self.n_room, 1) * n_pass
        room = np.empty(n + _PAGE_BYTES // 8, np.int64)
        room.fill(0)  # a page of it costs most when it is first written to
        begin = -room.ctypes.data % _PAGE_BYTES // 8
        self._passes = room[begin : begin + n].reshape(-1, n_pass)
        first = int(self._passes.ctypes.data)
        advance = 0 if max_bytes is None else 8 * n_pass
        self.log = np.array([first, first, first + self.n_room * 8 * n_pass, advance, 8 * self._per_thread])
        self.address = int(self.log.ctypes.data)

    @property
    def n_begun(self) -> int:
        """Passes that have begun, those without room among them; of passes that are kept."""
        return int((self.log[NEXT] - self._passes.ctypes.data) // self.log[ADVANCE])

    @property
    def ticks(self) -> NDArray[np.int64]:
        """Those of the pass that was filled last, as `of_pass`; the next one may overwrite them."""
        return self.of_pass(int(self.log[CURRENT] - self._passes.ctypes.data) // self._passes.strides[0])

    def of_pass(self, i: int) -> NDArray[np.int64]:
        """int64 (n_run, n_active, 2), a view: the CPU's tick counter at begin and end of every instruction of a pass.

        Args:
            i: below `n_room`: how many had begun before it.
        """
        n_run, n_active = self._passes[i, :2]
        each = self._passes[i, _LINE:].reshape(-1, self._per_thread // 2, 2)
        return each[:n_active, :n_run].transpose(1, 0, 2)
