"""Where the weights live while the model runs: used where they lie in the file, or packed once into memory.

``mapped`` copies nothing and starts at once; the kernels re-tile a few rows at a time in cache. ``packed`` re-tiles
every matrix whose format has tiles once into anonymous memory in huge pages: it streams faster and cannot be hurt by a
file that changes underneath.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llorch.errors import ModelError, SettingsError
from llorch.kernels import paths
from llorch.kernels.jit import Unit
from llorch.kernels.layout import TILE_ROWS, ceil_div, round_up, share_begin
from llorch.kernels.weights.format import Matrix, RowTables, WeightFormat
from llorch.kernels.weights.formats import FORMATS
from llorch.machine.memory import CACHE_LINE, HUGE_PAGE, aligned_bytes, available_memory
from llorch.machine.places import Places, bind
from llorch.model.weights import Layer, Weights
from llorch.progress import Progress, ignore_progress
from llorch.quant.tensor import Tensor, first_bad_scale

RESIDENCES = ("auto", "packed", "mapped")
_PIECE_BYTES = 16 << 20
_SHARE_OF_FREE = 0.7


PlacedLayer: TypeAlias = Layer[Matrix]
"""The weights of one transformer block as the kernels take them."""


@dataclass(frozen=True, slots=True)
class PlacedWeights:
    """All weights as the kernels take them.

    Attributes:
        token_embd: (n_vocab, n_embd), rows as in the file.
        layers: one entry per transformer block.
        output_norm: float32 (n_embd,).
        output: (n_vocab, n_embd).
    """

    token_embd: Matrix
    layers: tuple[PlacedLayer, ...]
    output_norm: NDArray[np.float32]
    output: Matrix


def packed_bytes(weights: Weights) -> int:
    """Memory that the ``packed`` residence takes."""
    sizes = [_format(t).packed_bytes(*t.shape) for t in weights.matrices()]
    if not weights.is_tied or _format(weights.output).tiling is not None:
        sizes.append(weights.token_embd.n_bytes)
    return sum(round_up(size, CACHE_LINE) for size in sizes)


def _copied_bytes(weights: Weights) -> int:
    """Memory that the ``mapped`` residence takes, for what no kernel can use as it lies in the file."""
    tensors = dict.fromkeys((weights.token_embd, *weights.matrices()))
    return sum(round_up(t.n_bytes, CACHE_LINE) for t in tensors if _needs_copy(t, weights))


def _needs_copy(tensor: Tensor, weights: Weights) -> bool:
    """Whether the stored matrix is transposed, or its rows are looked up in another order than the stored one."""
    placement = tensor.placement
    return placement is not None and (placement.is_transposed or tensor is weights.token_embd)


def choose_residence(weights: Weights, wanted: str) -> tuple[str, str]:
    """The residence to use and the reason, given a setting (``"auto"`` decides by free memory)."""
    if wanted not in RESIDENCES:
        raise SettingsError(f"weights: {wanted!r} is not known, expected one of {', '.join(RESIDENCES)}")
    if paths.sums() == "llama.cpp":
        return "mapped", "sums in llama.cpp's order take rows as in the file"
    if wanted != "auto":
        return wanted, "as set"
    need, free = packed_bytes(weights), available_memory()
    text = f"{need / 2**20:.0f} MiB packed, {free / 2**30:.1f} GiB of memory available"
    return ("packed" if need <= _SHARE_OF_FREE * free else "mapped"), text


def _format(tensor: Tensor) -> WeightFormat:
    return FORMATS[tensor.type]


@dataclass(frozen=True, slots=True)
class _Job:
    """A piece of work on a tensor: `work` packs or checks it, and gives non-zero if a scale is not finite.

    Threads of NUMA node `node` do it, so that what they write first lies there.
    """

    tensor: Tensor
    n_bytes: int
    work: Callable[[], int]
    node: int = 0


class Residence:
    """Makes the placed weights of a model: first their places (at construction), then what is in them (`fill`).

    Attributes:
        kind: ``"packed"`` or ``"mapped"``.
        n_bytes: anonymous memory taken.
        weights: the placed weights.
    """

    def __init__(self, weights: Weights, kind: str, n_nodes: int = 1) -> None:
        """Reserve memory; nothing is read from the file yet.

        Args:
            weights: checked weights; their file must stay open while the placed weights are used.
            kind: ``"packed"`` or ``"mapped"``.
            n_nodes: NUMA nodes to which tiles are shared out.
        """
        self.kind = kind
        self._n_nodes = n_nodes
        self.n_bytes = packed_bytes(weights) if kind == "packed" else _copied_bytes(weights)
        self._arena = aligned_bytes(self.n_bytes, HUGE_PAGE) if self.n_bytes else None
        self._taken = 0
        self._units: dict[Unit, None] = {}
        self._jobs: list[_Job] = []
        self._of = weights
        self._copies: dict[Tensor, NDArray[np.uint8]] = {}
        token_embd = self._place_rows(weights.token_embd)
        if not weights.is_tied:
            self._jobs += self._scan_jobs(weights.token_embd)
        self.weights = PlacedWeights(
            token_embd=token_embd,
            layers=tuple(layer.placed(self._place) for layer in weights.layers),
            output_norm=weights.output_norm,
            output=self._place(weights.output),
        )

    def scratch_bytes(self) -> int:
        """Bytes of scratch that each thread needs for products."""
        matrices = [m for w in self.weights.layers for m in w.matrices()] + [self.weights.output]
        return max((m.format.scratch_bytes(m.n_in, m.is_packed) for m in matrices), default=0)

    def units(self) -> list[Unit]:
        """The units that `fill` runs."""
        return list(self._units)

    def fill(self, places: Places, progress: Progress = ignore_progress) -> None:
        """Pack the matrices that have tiles, and check every scale.

        Args:
            places: of the threads that do it, as many as will compute.
            progress: told ``("loading", bytes done, bytes in all)``.

        Raises:
            ModelError: a scale (or value) is NaN or infinite.
        """
        total, done = sum(job.n_bytes for job in self._jobs), 0
        lock = threading.Lock()

        def run(job: _Job) -> None:
            nonlocal done
            if job.work():
                what = f"{_format(job.tensor).scale_name} {first_bad_scale(job.tensor)}"
                raise ModelError(f"tensor {job.tensor.name!r}: {what} is not a finite number")
            with lock:
                done += job.n_bytes
                progress("loading", done, total)

        with ExitStack() as pools:
            by_node = [pools.enter_context(_pool(places, node)) for node in range(self._n_nodes)]
            futures = [by_node[job.node].submit(run, job) for job in self._jobs]
            pools.callback(lambda: [future.cancel() for future in futures])
            for future in futures:
                future.result()
        self._jobs.clear()

    def _place(self, tensor: Tensor) -> Matrix:
        """The matrix of `tensor`: packed where that is the residence and the format has tiles, else its rows."""
        weight_format = _format(tensor)
        tiling = weight_format.tiling
        if self.kind == "mapped" or tiling is None:
            self._jobs += self._scan_jobs(tensor)
            return self._place_rows(tensor)
        n_out, n_in = tensor.shape
        stride, n_tiles = tiling.tile_bytes(n_in), ceil_div(n_out, TILE_ROWS)
        tiles = int(self._take(n_tiles * stride).ctypes.data)
        self._units[tiling.pack] = None
        rows = RowTables.of(tensor)
        if rows.scales is not None:
            self._jobs += self._scan_jobs(tensor)
        per_piece = max(1, _PIECE_BYTES // stride)
        for node in range(self._n_nodes):
            begin, end = (share_begin(n_tiles, i, self._n_nodes) for i in (node, node + 1))
            for first in range(begin, end, per_piece):
                last = min(first + per_piece, end)
                of_tiles = tensor.address, n_in, n_out, tiles, stride, first, last, rows.addresses[0]
                work = functools.partial(tiling.pack, *of_tiles)
                n_rows = min(last * TILE_ROWS, n_out) - first * TILE_ROWS
                self._jobs.append(_Job(tensor, n_rows * tensor.row_bytes, work, node))
        return Matrix(weight_format, n_out, n_in, tiles, True, (self._arena, rows), *rows.addresses)

    def _place_rows(self, tensor: Tensor) -> Matrix:
        """The rows of `tensor` as they are: in the file, or copied when packed."""
        n_out, n_in = tensor.shape
        if self.kind == "mapped" and not _needs_copy(tensor, self._of):
            rows, memory = RowTables.of(tensor), tensor.data
        else:
            if tensor not in self._copies:
                self._copies[tensor] = self._take(tensor.n_bytes)
                self._jobs += _copy_jobs(tensor, self._copies[tensor])
            memory = self._copies[tensor]
            rows = RowTables.of(dataclasses.replace(tensor, placement=None))
        address = int(memory.ctypes.data)
        return Matrix(_format(tensor), n_out, n_in, address, False, (memory, rows), *rows.addresses)

    def _take(self, n_bytes: int) -> NDArray[np.uint8]:
        assert self._arena is not None  # there is what it is for
        start = round_up(self._taken, CACHE_LINE)
        self._taken = start + n_bytes
        return self._arena[start : start + n_bytes]

    def _scan_jobs(self, tensor: Tensor) -> Iterator[_Job]:
        """Pieces of work that look for NaN and infinities, in the scales of rows where there are any."""
        scan = _format(tensor).scan
        self._units[scan] = None
        checked, size = tensor.data, tensor.type.block_bytes
        if tensor.row_scales is not None:
            checked, size = tensor.row_scales.view(np.uint8), tensor.row_scales.itemsize
        n_blocks, per_piece = checked.nbytes // size, _PIECE_BYTES // size
        for first in range(0, n_blocks, per_piece):
            n = min(per_piece, n_blocks - first)
            yield _Job(tensor, n * size, functools.partial(scan, int(checked.ctypes.data) + first * size, n))


def _pool(places: Places, node: int) -> ThreadPoolExecutor:
    """As many threads as will compute on a node, on its CPUs."""
    cpus = places.cpus_of_nodes[node] if places.cpus_of_nodes else ()
    return ThreadPoolExecutor(max(1, places.nodes.count(node)), initializer=bind, initargs=(cpus,))


def _copy_jobs(tensor: Tensor, to: NDArray[np.uint8]) -> Iterator[_Job]:
    """Pieces of work that write the rows of `tensor` one after the other."""
    n_rows, size = tensor.shape[0], tensor.row_bytes
    per_piece = max(1, _PIECE_BYTES // size)
    for first in range(0, n_rows, per_piece):
        last = min(first + per_piece, n_rows)
        work = functools.partial(_copy, tensor, first, last, to[first * size : last * size])
        yield _Job(tensor, (last - first) * size, work)


def _copy(tensor: Tensor, first: int, last: int, to: NDArray[np.uint8]) -> int:
    to[:] = tensor.rows(first, last)
    return 0
