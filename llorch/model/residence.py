"""Where the weights live while the model runs: used where they lie in the file, or re-tiled once in memory.

``mapped`` copies nothing and starts at once; the kernels re-tile a few rows at a time in cache. ``packed``
re-tiles every Q8_0 matrix once into anonymous memory in huge pages: it streams faster and cannot be hurt by a
file that changes underneath.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from llorch.errors import ModelError, SettingsError
from llorch.kernels import paths
from llorch.kernels.instructions import Matrix
from llorch.kernels.linear.floats import scan_floats
from llorch.kernels.linear.q8_dot import TILE_ROWS, tile_bytes
from llorch.kernels.linear.q8_pack import pack_tiles, scan_scales
from llorch.machine.memory import HUGE_PAGE, aligned_bytes, available_memory
from llorch.model.weights import Weights
from llorch.progress import Progress
from llorch.quant.codecs import first_bad_scale
from llorch.quant.tensor import Tensor
from llorch.quant.types import Q8_0

RESIDENCES = ("auto", "packed", "mapped")
_PIECE_BYTES = 16 << 20
_SHARE_OF_FREE = 0.7


def packed_bytes(weights: Weights) -> int:
    """Memory that the ``packed`` residence takes."""
    sizes = [weights.token_embd.n_bytes]
    sizes += [_tiles_bytes(t) if t.type is Q8_0 else t.n_bytes for t in weights.matrices()]
    return sum(-(-size // 64) * 64 for size in sizes)


def choose_residence(weights: Weights, wanted: str) -> tuple[str, str]:
    """The residence to use and the reason, given a setting (``"auto"`` decides by free memory)."""
    if wanted not in RESIDENCES:
        raise SettingsError(f"weights: {wanted!r} is not known, expected one of {', '.join(RESIDENCES)}")
    if paths.sums() == "llama.cpp":
        return "mapped", "sums in llama.cpp's order take rows as in the file"
    if wanted != "auto":
        return wanted, "as set"
    need, free = packed_bytes(weights), available_memory()
    text = f"{need / 1e6:.0f} MB packed, {free / 1e6:.0f} MB of memory available"
    return ("packed" if need <= _SHARE_OF_FREE * free else "mapped"), text


def _tiles_bytes(tensor: Tensor) -> int:
    n_out, n_in = tensor.shape
    return -(-n_out // TILE_ROWS) * tile_bytes(n_in)


class Residence:
    """The matrices of a model where the kernels can use them.

    Attributes:
        kind: ``"packed"`` or ``"mapped"``.
        n_bytes: anonymous memory taken.
    """

    def __init__(self, weights: Weights, kind: str, n_threads: int, progress: Progress | None = None) -> None:
        self.kind = kind
        self.n_bytes = packed_bytes(weights) if kind == "packed" else 0
        self._arena = aligned_bytes(self.n_bytes, HUGE_PAGE) if self.n_bytes else None
        self._taken = 0
        self._placed: dict[int, Matrix] = {}
        tensors = list(weights.matrices())
        self.embedding = self._raw(weights.token_embd)
        total = sum(t.n_bytes for t in tensors)
        done = 0
        lock = threading.Lock()

        def run(job: tuple[Tensor, int, Callable[[], int]]) -> None:
            nonlocal done
            tensor, n_bytes, work = job
            if work():
                block = first_bad_scale(tensor)
                what = f"the scale of block {block}" if tensor.type is Q8_0 else f"value {block}"
                raise ModelError(f"tensor {tensor.name!r}: {what} is not a finite number")
            with lock:
                done += n_bytes
                if progress:
                    progress("weights", done, total)

        jobs = [job for tensor in tensors for job in self._jobs(tensor)]
        if not weights.is_tied:
            jobs.extend(_scan_jobs(weights.token_embd))
        with ThreadPoolExecutor(n_threads) as pool:
            for _ in pool.map(run, jobs):
                pass

    def matrix(self, tensor: Tensor) -> Matrix:
        """The matrix made from `tensor`."""
        return self._placed[id(tensor)]

    def _take(self, n_bytes: int) -> NDArray[np.uint8]:
        assert self._arena is not None
        start = -(-self._taken // 64) * 64
        self._taken = start + n_bytes
        return self._arena[start : start + n_bytes]

    def _raw(self, tensor: Tensor) -> Matrix:
        """The tensor's rows as they are: in the file, or copied when packed."""
        n_out, n_in = tensor.shape
        address = tensor.address
        if self.kind == "packed":
            copy = self._take(tensor.n_bytes)
            copy[:] = tensor.data
            address = int(copy.ctypes.data)
        return Matrix(tensor.type.ggml_id, n_out, n_in, address, False)

    def _jobs(self, tensor: Tensor) -> Iterator[tuple[Tensor, int, Callable[[], int]]]:
        """Place `tensor` and give the pieces of work that fill or check it."""
        n_out, n_in = tensor.shape
        if tensor.type is not Q8_0:
            self._placed[id(tensor)] = self._raw(tensor)
            yield from _scan_jobs(tensor)
            return
        if self.kind == "mapped":
            self._placed[id(tensor)] = self._raw(tensor)
            yield from _scan_jobs(tensor)
            return
        stride = tile_bytes(n_in)
        tiles = int(self._take(_tiles_bytes(tensor)).ctypes.data)
        self._placed[id(tensor)] = Matrix(tensor.type.ggml_id, n_out, n_in, tiles, True)
        n_tiles = -(-n_out // TILE_ROWS)
        per_piece = max(1, _PIECE_BYTES // stride)
        for first in range(0, n_tiles, per_piece):
            last = min(first + per_piece, n_tiles)
            args = (tensor.address, n_in, n_out, tiles, stride, first, last)
            n_bytes = (last - first) * TILE_ROWS * tensor.row_bytes
            yield tensor, n_bytes, lambda args=args: pack_tiles(*args)  # type: ignore[misc]


def _scan_jobs(tensor: Tensor) -> Iterator[tuple[Tensor, int, Callable[[], int]]]:
    """Pieces of work that look for NaN and infinities."""
    size = tensor.type.block_bytes
    n_blocks = tensor.n_bytes // size
    per_piece = _PIECE_BYTES // size
    for first in range(0, n_blocks, per_piece):
        n = min(per_piece, n_blocks - first)
        address = tensor.address + first * size
        if tensor.type is Q8_0:
            yield tensor, n * size, lambda a=address, n=n: scan_scales(a, n)  # type: ignore[misc]
        else:
            yield tensor, n * size, lambda a=address, n=n: scan_floats(tensor.type.ggml_id, a, n)  # type: ignore[misc]
