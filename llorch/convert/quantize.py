"""A GGUF file written with weights of other types than those it is made from."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from llorch.convert.gguf_writer import Layout, lay_out, uint32_pair
from llorch.convert.k_encoders import K_ENCODERS
from llorch.convert.mixtures import FileType, choose_type
from llorch.convert.written_beside import FileBeside, check_place, written_beside
from llorch.errors import InputError, LlorchError
from llorch.formats.gguf.file import GGUFFile
from llorch.formats.gguf.tensors import TensorInfo
from llorch.formats.printed import printable, quote
from llorch.formats.protocol import ModelSource
from llorch.model.config import ModelConfig
from llorch.progress import Progress, ignore_progress
from llorch.quant.codecs.floats import Bytes, Floats
from llorch.quant.tensor import Tensor, dequantize, first_bad_scale
from llorch.quant.types import F32, SUPPORTED, QuantType

PIECE_ELEMENTS = 1 << 17
"""About as many elements as a thread converts at a time: few calls of NumPy, little memory, and an interrupt waits for
no more."""

FORGET_BYTES = 1 << 26
"""Bytes written between two releases of the pages that were read."""

QUANTIZATION_VERSION = 2
"""Value of ``general.quantization_version``: that of every type ggml has today."""

Piece: TypeAlias = tuple[TensorInfo, int, int]
"""Rows of a tensor: the first and the one behind the last."""

REPLACED = ("general.quantization_version", "general.file_type")
"""Metadata keys that say what the types of the tensors are."""

_OF_SPLITS = ("split.no", "split.count", "split.tensors.count")
_LAYER = re.compile(r"blk\.([0-9]{1,9})\.")


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be written, and where.

    Attributes:
        path: where the file will appear.
        wanted: the file type.
        layout: header and places.
        requantised: names of the tensors that have lost precision already and lose more.
        n_unfit: how many matrices have rows that are not whole blocks of the file type, and get another type.
    """

    path: Path
    wanted: FileType
    layout: Layout
    requantised: tuple[str, ...]
    n_unfit: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Types of the tensors of a file to be written.

    Attributes:
        tensors: name, type and shape of each, in the order of the file.
        requantised: as in `Plan`.
        n_unfit: as in `Plan`.
    """

    tensors: tuple[tuple[str, QuantType, tuple[int, ...]], ...]
    requantised: tuple[str, ...]
    n_unfit: int


def plan_quantization(
    source: GGUFFile, path: Path, wanted: FileType, *, is_pure: bool = False, may_requantise: bool = False
) -> Plan:
    """Choose a type and a place for every tensor of `source`.

    Args:
        source: a Llama model, of types that llorch can run.
        path: where to write; a file that is there will be replaced.
        wanted: the file type.
        is_pure: whether every matrix gets the same type, as far as the length of its rows allows.
        may_requantise: whether weights that are quantised already may be quantised anew.

    Raises:
        InputError: the file cannot be used, or nothing can be written at `path`.
    """
    check_place(path, source.part_paths)
    choice = choose_types(source, wanted, is_pure=is_pure)
    if choice.requantised and not may_requantise:
        first = source.tensors[choice.requantised[0]]
        raise InputError(
            f"{printable(source.path)}: {len(choice.requantised)} tensors are quantised already, such as "
            f"{quote(first.name)} ({first.type.name}); --allow-requantize does it nevertheless, less precisely than "
            "from F32, F16 or BF16"
        )
    pairs = [source.metadata.pair(key) for key in source.metadata if key not in REPLACED + _OF_SPLITS]
    return plan_file(path, wanted, pairs, choice, source.alignment)


def choose_types(
    source: ModelSource, wanted: FileType, *, is_pure: bool, vectors: QuantType | None = None
) -> Choice:
    """Choose a type for every tensor of `source`.

    Args:
        source: a Llama model.
        wanted: the file type.
        is_pure: whether every matrix gets the same type, as far as the length of its rows allows.
        vectors: type of what is no matrix; None: the one it has.
    """
    config = ModelConfig.from_metadata(source.metadata)
    is_tied = "output.weight" not in source.tensors
    chosen = []
    requantised = []
    n_unfit = 0
    for name in sorted(source.tensors, key=_place_of):
        tensor = source.tensors[name]
        picked = choose_type(name, tensor.shape, wanted, config, is_tied=is_tied, is_pure=is_pure)
        quant = picked or vectors or tensor.type
        chosen.append((name, quant, tensor.shape))
        n_unfit += picked is not None and tensor.shape[-1] % wanted.quant.block_size != 0
        if tensor.type.block_size > 1 and quant not in (tensor.type, F32):
            requantised.append(name)
    return Choice(tuple(chosen), tuple(requantised), n_unfit)


def plan_file(path: Path, wanted: FileType, pairs: Sequence[bytes], choice: Choice, alignment: int) -> Plan:
    """Lay a file out.

    Args:
        path: where to write.
        wanted: the file type.
        pairs: metadata, without the keys `REPLACED`, which are added.
        choice: the tensors.
        alignment: what ``general.alignment`` among the pairs says, or its default.
    """
    numbers = (QUANTIZATION_VERSION, wanted.number)
    added = [uint32_pair(key, number) for key, number in zip(REPLACED, numbers, strict=True)]
    layout = lay_out([*pairs, *added], choice.tensors, alignment)
    return Plan(path, wanted, layout, choice.requantised, choice.n_unfit)


def write_quantized(
    source: ModelSource, plan: Plan, *, n_threads: int = 1, progress: Progress = ignore_progress
) -> None:
    """Write what was planned; the file appears when it is complete, checked and on the disk.

    Memory stays bounded: `n_threads` pieces of a tensor at a time.

    Args:
        source: the model that the plan was made for.
        plan: what to write.
        n_threads: how many convert at once.
        progress: called with the tensor in work, the bytes written and the size of the file.

    Raises:
        InputError: a weight is NaN, infinite or too large for its type, `source` changes meanwhile, or the file cannot
            be written.
    """

    def check(written: Path) -> None:
        if change := source.changed():
            raise InputError(f"{printable(source.path)}: {change} while it was read")
        _check_written(written, plan)

    with written_beside(plan.path, plan.layout.n_bytes, check) as file:
        file.write(0, plan.layout.header)
        _write_tensors(source, plan.layout, file, n_threads, progress)


def _write_tensors(
    source: ModelSource, layout: Layout, file: FileBeside, n_threads: int, progress: Progress
) -> None:
    tensors = source.tensors

    def convert(piece: Piece) -> tuple[TensorInfo, int]:
        tensor, first, last = piece
        data = _converted(_rows(tensors[tensor.name], first, last), SUPPORTED[tensor.type_id])
        file.write(tensor.offset + first * (data.nbytes // (last - first)), data.data)
        return tensor, data.nbytes

    n_done, n_forgotten = len(layout.header), 0
    with closing(_computed(convert, _pieces(layout), n_threads)) as results:
        for tensor, n_bytes in results:
            n_done += n_bytes
            progress(f"{tensor.name} {tensor.type_name}", n_done, layout.n_bytes)
            if n_done - n_forgotten > FORGET_BYTES:
                source.forget_pages()
                n_forgotten = n_done


def _computed(
    function: Callable[[Piece], tuple[TensorInfo, int]], pieces: Iterable[Piece], n_threads: int
) -> Generator[tuple[TensorInfo, int], None, None]:
    """Results in order; no more than two pieces a thread are under way. Whatever happens, threads end first."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="llorch-quantize")
    under_way: deque[Future[tuple[TensorInfo, int]]] = deque()
    try:
        for piece in pieces:
            under_way.append(pool.submit(function, piece))
            if len(under_way) >= 2 * n_threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pieces(layout: Layout) -> Iterator[Piece]:
    for tensor in layout.tensors:
        n_rows = math.prod(tensor.shape[:-1])
        step = max(1, PIECE_ELEMENTS // tensor.shape[-1])
        for first in range(0, n_rows, step):
            yield tensor, first, min(first + step, n_rows)


def _rows(tensor: Tensor, first: int, last: int) -> Tensor:
    scales = None if tensor.row_scales is None else tensor.row_scales[first:last]
    shape, data = (last - first, tensor.shape[-1]), tensor.rows(first, last)
    return Tensor(tensor.name, tensor.type, shape, data, row_scales=scales)


def _converted(rows: Tensor, quant: QuantType) -> Bytes:
    """The bytes of `rows` stored as `quant`."""
    if first_bad_scale(rows) is not None:
        raise InputError(f"tensor {quote(rows.name)} holds NaN or an infinite number; no type can store that")
    if quant is rows.type:
        return rows.data
    encode = encoder_of(quant)
    data = encode(dequantize(rows).ravel())
    if first_bad_scale(Tensor(rows.name, quant, rows.shape, data)) is not None:
        raise InputError(f"tensor {quote(rows.name)} holds numbers too large for {quant.name}")
    return data


def encoder_of(quant: QuantType) -> Callable[[Floats], Bytes]:
    """The encoder of a type: float32, whole blocks of finite numbers, to bytes."""
    encode = quant.encode or K_ENCODERS.get(quant.name)
    if encode is None:
        raise LlorchError(f"{quant.name} has no encoder")
    return encode


def _check_written(path: Path, plan: Plan) -> None:
    """Read the tensor table back."""
    with GGUFFile(path) as written:
        if tuple(written.own_infos) != plan.layout.tensors or written.n_bytes != plan.layout.n_bytes:
            raise LlorchError("the file reads back differently from what was written")


def _place_of(name: str) -> tuple[int, str]:
    """Where `llama-quantize` puts a tensor: what belongs to no layer first, then the layers."""
    layer = _LAYER.match(name)
    return (int(layer[1]) if layer else -1, name)
