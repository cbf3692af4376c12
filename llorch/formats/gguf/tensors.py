"""Tensor infos of a GGUF file: the location of each tensor, checked to be inside the file."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llorch.errors import GGUFError
from llorch.formats.gguf.reader import HeaderReader
from llorch.formats.printed import quote
from llorch.quant.types import GGML_LAYOUTS, GGML_NAMES, SUPPORTED

REQUANTIZE = "llama-quantize --allow-requantize FILE OUT Q4_K_M"
"""llama.cpp's program, which reads every type that it can run."""

MAX_TENSORS = 131_072
MAX_NAME_BYTES = 64
MAX_DIMS = 4

MIN_INFO_BYTES = 8 + 1 + 4 + 8 + 4 + 8
"""Name length, one byte of name, n_dims, one dim, type, offset."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor as the header describes it; llorch may lack kernels for its type.

    Attributes:
        name: GGUF name.
        type_id: ggml's number of the type.
        shape: NumPy order (the file stores the fastest dimension first).
        offset: of the first byte, from the beginning of `part`.
        n_bytes: size of the data.
        part: index of the file among the parts of a split model; 0 for a single file.
    """

    name: str
    type_id: int
    shape: tuple[int, ...]
    offset: int
    n_bytes: int
    part: int = 0

    @property
    def type_name(self) -> str:
        """ggml's name of the type, e.g. ``"Q4_K"``."""
        return GGML_NAMES[self.type_id]

    @property
    def is_supported(self) -> bool:
        """Whether llorch has kernels for the type."""
        return self.type_id in SUPPORTED


def unsupported_type_message(info: TensorInfo) -> str:
    """Message about a tensor whose type ggml knows and llorch cannot run."""
    supported = ", ".join(sorted(t.name for t in SUPPORTED.values()))
    message = (
        f"tensor {quote(info.name)} has type {info.type_name} (not supported); llorch can run {supported}"
    )
    is_quantised = GGML_LAYOUTS[info.type_id][0] > 1
    return f"{message}; convert the file: {REQUANTIZE}" if is_quantised else message


def read_tensor_infos(reader: HeaderReader, n_tensors: int, alignment: int, part: int) -> list[TensorInfo]:
    """Read the tensor infos at the cursor, and check that their data lies in the file without overlaps.

    Raises:
        GGUFError: naming the tensor and what is wrong with it.
    """
    relative: dict[str, TensorInfo] = {}
    for index in range(n_tensors):
        info = _read_info(reader, index, alignment, part)
        if info.name in relative:
            raise reader.error(f"tensor {quote(info.name)} appears twice")
        relative[info.name] = info
    data_start = reader.offset + -reader.offset % alignment
    _check_placement(reader, list(relative.values()), data_start)
    return [
        TensorInfo(info.name, info.type_id, info.shape, data_start + info.offset, info.n_bytes, part)
        for info in relative.values()
    ]


def _read_info(reader: HeaderReader, index: int, alignment: int, part: int) -> TensorInfo:
    """One info, its offset still relative to the start of the data."""
    name = reader.name(f"the name of tensor {index}", MAX_NAME_BYTES)
    what = f"tensor {quote(name)}"
    n_dims = reader.u32(f"the number of dimensions of {what}")
    if not 1 <= n_dims <= MAX_DIMS:
        raise reader.error(f"{what} has {n_dims} dimensions; 1 to {MAX_DIMS} were expected")
    dims = [reader.u64(f"dimension {i} of {what}") for i in range(n_dims)]
    for i, dim in enumerate(dims):
        if not 0 < dim < 1 << 63:
            signed = dim - (1 << 64) if dim else 0
            raise reader.error(f"dimension {i} of {what} is {signed}; it must be positive")
    type_id = reader.u32(f"the type of {what}")
    n_bytes = _data_bytes(reader, what, type_id, dims)
    offset = reader.u64(f"the offset of {what}")
    if offset % alignment:
        raise reader.error(f"{what} starts at data offset {offset}, which is no multiple of {alignment}")
    return TensorInfo(name, type_id, tuple(reversed(dims)), offset, n_bytes, part)


def _data_bytes(reader: HeaderReader, what: str, type_id: int, dims: list[int]) -> int:
    """Size of a tensor's data; dims fastest first."""
    if type_id not in GGML_NAMES:
        raise reader.error(f"{what} has the unknown type number {type_id}")
    if type_id not in GGML_LAYOUTS:
        raise reader.error(
            f"{what} has type {GGML_NAMES[type_id]}, which was removed from GGUF; convert the model again"
        )
    block_size, block_bytes = GGML_LAYOUTS[type_id]
    if dims[0] % block_size:
        raise reader.error(
            f"{what} has rows of {dims[0]} elements; {GGML_NAMES[type_id]} needs a multiple of {block_size}"
        )
    return math.prod(dims) // block_size * block_bytes


def _check_placement(reader: HeaderReader, infos: list[TensorInfo], data_start: int) -> None:
    available = reader.n_bytes - data_start
    previous: TensorInfo | None = None
    for info in sorted(infos, key=lambda info: info.offset):
        if info.offset + info.n_bytes > available:
            raise _past_the_end(reader, info, data_start)
        if previous is not None and info.offset < previous.offset + previous.n_bytes:
            raise reader.error(f"tensors {quote(previous.name)} and {quote(info.name)} overlap")
        previous = info


def _past_the_end(reader: HeaderReader, info: TensorInfo, data_start: int) -> GGUFError:
    available = max(0, reader.n_bytes - data_start - info.offset)
    return reader.error(
        f"tensor {quote(info.name)} {list(info.shape)} {info.type_name} needs {info.n_bytes} bytes at data "
        f"offset {info.offset}, but only {available} are there (is the download complete?)"
    )
