"""GGUF, llama.cpp's model format, read through a memory map.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from llorch.errors import GGUFError
from llorch.formats.gguf.metadata import MAX_KEYS, MIN_PAIR_BYTES, GGUFMetadata
from llorch.formats.gguf.reader import HeaderReader
from llorch.formats.gguf.split import open_other_parts
from llorch.formats.gguf.tensors import (
    MAX_TENSORS,
    MIN_INFO_BYTES,
    TensorInfo,
    read_tensor_infos,
    unsupported_type_message,
)
from llorch.formats.mapped_file import MappedFile
from llorch.formats.mapped_model import MappedModel
from llorch.formats.printed import printable
from llorch.quant.tensor import Tensor
from llorch.quant.types import SUPPORTED

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 24


class GGUFFile(MappedModel):
    """A GGUF model (a `ModelSource`), its header fully checked; a split model appears as one.

    Attributes:
        version: of the format, 2 or 3.
        alignment: what tensor offsets are a multiple of.
        part_index: number of this file among those of a split model.
        own_infos: the tensors of this file, in the order of its header.
        tensor_infos: by name, of all parts, whether llorch can run their types or not.
        part_paths: every file of the model; one unless it is split.
    """

    _error = GGUFError

    def __init__(self, path: str | os.PathLike[str], part_index: int = 0) -> None:
        """Map the file and check its header; time and memory depend on the header only, not on the weights.

        Args:
            path: the file; of a split model, the first.
            part_index: 0, but for the other files of a split model.

        Raises:
            GGUFError: the file cannot be opened or is malformed; the message names the file and the key or
                tensor.
        """
        super().__init__(Path(path))
        self.part_index = part_index
        self._others: list[GGUFFile] = []
        self._file = MappedFile(self._path, "a GGUF file", GGUFError)
        try:
            self._read_header()
            for part in open_other_parts(self):
                self._others.append(part)
        except BaseException:
            self.close()
            raise
        infos = {info.name: info for part in self._parts() for info in part.own_infos}
        self.tensor_infos: Mapping[str, TensorInfo] = MappingProxyType(infos)
        self.part_paths = tuple(part.path for part in self._parts())

    def _parts(self) -> Iterator[GGUFFile]:
        yield self
        yield from self._others

    def _read_header(self) -> None:
        reader = HeaderReader(self._file.bytes, printable(self._path))
        self.version = _read_version(reader)
        n_tensors = reader.count("the number of tensors", MIN_INFO_BYTES, MAX_TENSORS)
        n_keys = reader.count("the number of metadata keys", MIN_PAIR_BYTES, MAX_KEYS)
        self._metadata = GGUFMetadata(reader, n_keys)
        self.alignment = _alignment(reader, self._metadata)
        self.own_infos = read_tensor_infos(reader, n_tensors, self.alignment, self.part_index)

    def _files(self) -> Iterator[MappedFile]:
        """The parts of a split model in order."""
        return (part._file for part in self._parts())

    @property
    def metadata(self) -> GGUFMetadata:
        """Values by key, of the first part; arrays are decoded at their first access."""
        return self._metadata

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights by name, read-only views on the file.

        Raises:
            GGUFError: a tensor has a type that llorch cannot run.
        """
        self._require_open()
        views = (part._tensor(info) for part in self._parts() for info in part.own_infos)
        return MappingProxyType({tensor.name: tensor for tensor in views})

    def _tensor(self, info: TensorInfo) -> Tensor:
        """A tensor of this file; its data keep the map alive."""
        if not info.is_supported:
            raise GGUFError(f"{printable(self._path)}: {unsupported_type_message(info)}")
        data = np.frombuffer(self._file.bytes, np.uint8, info.n_bytes, info.offset)
        return Tensor(info.name, SUPPORTED[info.type_id], info.shape, data)

    def close(self) -> None:
        """Close the file. A second call does nothing.

        Tensors stay valid. Metadata arrays that were not read before cannot be read afterwards.
        """
        for part in self._others:
            part.close()
        if hasattr(self, "_metadata"):
            self._metadata.release()
        super().close()


def _read_version(reader: HeaderReader) -> int:
    reader.require(len(MAGIC) + 4, "the magic and version")
    magic = reader.buffer[: len(MAGIC)]
    if magic not in (MAGIC, MAGIC[::-1]):
        raise reader.error(f"is not a GGUF file: it starts with {magic!r}; {MAGIC!r} was expected")
    reader.offset = len(MAGIC)
    version = reader.u32("the version")
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if magic != MAGIC or (version > 0xFFFF and 0 < swapped < 0x10):
        raise reader.error("is a big-endian GGUF file; llorch reads little-endian ones, convert it")
    if version not in VERSIONS:
        raise reader.error(f"has GGUF version {version}; versions 2 and 3 are supported")
    return version


def _alignment(reader: HeaderReader, metadata: GGUFMetadata) -> int:
    key = "general.alignment"
    if key not in metadata:
        return DEFAULT_ALIGNMENT
    alignment = metadata.integer(key)
    if alignment is None or metadata.value_type(key) != "uint32":
        raise reader.error(f"metadata key '{key}' has type {metadata.value_type(key)}; uint32 was expected")
    if not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise reader.error(
            f"metadata key '{key}' is {alignment}; a power of two from 8 to {MAX_ALIGNMENT} was expected"
        )
    return alignment
