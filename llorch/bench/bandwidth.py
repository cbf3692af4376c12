"""Memory bandwidth of this machine, the limit on the speed of decoding."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from llorch.errors import LlorchError
from llorch.machine.memory import available_memory

BUFFER_BYTES = 512 << 20
"""Larger than any cache."""
SMALLEST_BUFFER_BYTES = 64 << 20
N_PASSES = 5
PIECES_PER_THREAD = 8


class ReadBandwidth:
    """Reads a large buffer with several threads, as fast as NumPy's vector loops go.

    The buffer is ordinary anonymous memory, in huge pages where the system gives them. A context manager,
    which owns the buffer and the threads.

    Args:
        n_threads: threads that read.
    """

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        n_bytes = min(BUFFER_BYTES, available_memory() // 4)
        if n_bytes < SMALLEST_BUFFER_BYTES:
            raise LlorchError("too little memory is free to measure how fast it is read")
        self._buffer: NDArray[np.int32] = np.empty(n_bytes // 4, np.int32)
        self._buffer.fill(1)  # unwritten pages all map to one page of zeros
        self._pool = ThreadPoolExecutor(n_threads)

    def __enter__(self) -> ReadBandwidth:
        self.measure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def measure(self) -> float:
        """Bytes per second, the median of a few passes over the buffer."""
        pieces = np.array_split(self._buffer, PIECES_PER_THREAD * self._n_threads)
        speeds = []
        for _ in range(N_PASSES):
            begun = time.perf_counter()
            for _ in self._pool.map(np.maximum.reduce, pieces):
                pass
            speeds.append(self._buffer.nbytes / (time.perf_counter() - begun))
        return statistics.median(speeds)
