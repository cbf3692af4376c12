"""One GGUF file: magic, version, header and the memory map of its tensors."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llorch.formats.gguf.metadata import MAX_KEYS, MIN_PAIR_BYTES, GGUFMetadata
from llorch.formats.gguf.reader import HeaderReader, map_file, printable
from llorch.formats.gguf.tensors import MAX_TENSORS, MIN_INFO_BYTES, TensorInfo, read_tensor_infos

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 24


class GGUFPart:
    """A parsed GGUF file, which may be one part of a split model.

    Attributes:
        path: the file.
        version: of the format, 2 or 3.
        metadata: its key-value pairs.
        alignment: tensor offsets are multiples of it.
        tensor_infos: in the order of the header.
        n_bytes: size of the file.
    """

    def __init__(self, path: Path, index: int = 0) -> None:
        """Map `path` and check its whole header.

        Args:
            path: the file.
            index: number of this part, noted in the tensor infos.

        Raises:
            GGUFError: the file cannot be opened, or is malformed.
        """
        self.path = path
        self._map = map_file(path)
        try:
            self._parse(index)
        except BaseException:
            self._map.close()
            raise

    def _parse(self, index: int) -> None:
        reader = HeaderReader(self._map, printable(self.path))
        self.n_bytes = reader.n_bytes
        self.version = _read_version(reader)
        n_tensors = reader.count("the number of tensors", MIN_INFO_BYTES, MAX_TENSORS)
        n_keys = reader.count("the number of metadata keys", MIN_PAIR_BYTES, MAX_KEYS)
        self.metadata = GGUFMetadata(reader, n_keys)
        self.alignment = _alignment(reader, self.metadata)
        self.tensor_infos = read_tensor_infos(reader, n_tensors, self.alignment, index)

    def tensor_data(self, info: TensorInfo) -> NDArray[np.uint8]:
        """The bytes of a tensor: uint8 (n_bytes,), a read-only view that keeps the map alive."""
        return np.frombuffer(self._map, np.uint8, info.n_bytes, info.offset)

    def forget_pages(self) -> None:
        """Release the memory of pages read so far; the next access reads them again."""
        if hasattr(self._map, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Unmap the file; while tensor views exist, the last one unmaps it."""
        self.metadata.release()
        with contextlib.suppress(BufferError):  # views exist: the last one unmaps the file
            self._map.close()


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
