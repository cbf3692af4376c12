"""External data: tensors of a graph whose numbers lie in other files of its directory.

Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md, and `TensorProto.external_data` of onnx.proto
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from llorch.errors import OnnxError
from llorch.formats.folder import file_inside
from llorch.formats.mapped_file import MappedFile
from llorch.formats.printed import printable, quote

MAX_FILES = 4096
"""The older exporter of PyTorch writes a file for each tensor."""

_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_SHA1 = re.compile(r"[0-9a-fA-F]{40}", re.ASCII)


class ExternalFiles:
    """The files beside a graph that hold its tensors, each mapped once.

    Tensors may start at any address and overlap: tied weights are stored once.
    """

    def __init__(self, path: Path) -> None:
        """No file is opened yet.

        Args:
            path: of the graph; `location` counts from its directory.
        """
        self._directory, self._label = path.parent, printable(path)
        self._files: dict[str, MappedFile] = {}
        self._checksums: dict[str, str] = {}
        self._is_verified = False

    @property
    def files(self) -> Mapping[str, MappedFile]:
        """By location, in the order of their names."""
        return dict(sorted(self._files.items()))

    @property
    def checksums(self) -> Mapping[str, str]:
        """SHA-1 by location, of those files for which the graph states it."""
        return self._checksums

    def data(self, entries: Mapping[str, str], n_bytes: int, what: str) -> NDArray[np.uint8]:
        """The bytes of a tensor: a view on a file.

        Args:
            entries: `external_data`, values by key; keys that the format does not define mean nothing.
            n_bytes: size of the tensor, as its type and shape say.
            what: the tensor in messages.

        Raises:
            OnnxError: a value is malformed, the file lies outside the directory or is missing, or the bytes do not
            lie inside it.
        """
        if "location" not in entries:
            raise self._fault(f"{what} is said to lie in another file, but no `location` names that file")
        location = str(PurePosixPath(entries["location"])) if entries["location"] else ""
        offset = self._number(entries, "offset", what) or 0
        length = self._number(entries, "length", what)
        if length is not None and length != n_bytes:
            raise self._fault(f"{what} has a `length` of {length} bytes; its type and shape need {n_bytes}")
        file = self._open(location, what)
        if offset + n_bytes > len(file.bytes):
            raise self._fault(
                f"{what} needs {n_bytes} bytes at offset {offset} of {quote(location)}, which has only "
                f"{len(file.bytes)} bytes (is the download complete?)"
            )
        if checksum := entries.get("checksum"):
            self._note_checksum(location, checksum, what)
        return np.frombuffer(file.bytes, np.uint8, n_bytes, offset)

    def _number(self, entries: Mapping[str, str], key: str, what: str) -> int | None:
        text = entries.get(key)
        if text is None:
            return None
        if not _NUMBER.fullmatch(text):
            raise self._fault(f"{what} has the `{key}` {quote(text)}; a whole number from 0 up was expected")
        return int(text)

    def _open(self, location: str, what: str) -> MappedFile:
        if location not in self._files:
            if len(self._files) == MAX_FILES:
                raise self._fault(f"has tensors in more than {MAX_FILES} files")
            path = file_inside(self._directory, location, f"{self._label}: {what}", OnnxError)
            self._files[location] = MappedFile(path, f"external data of {self._label}", OnnxError)
        return self._files[location]

    def _note_checksum(self, location: str, checksum: str, what: str) -> None:
        if not _SHA1.fullmatch(checksum):
            raise self._fault(
                f"{what} has the `checksum` {quote(checksum)}; 40 digits of SHA-1 were expected"
            )
        if self._checksums.setdefault(location, checksum.lower()) != checksum.lower():
            raise self._fault(f"{what} states another `checksum` of {quote(location)} than tensors before it")

    def verify(self) -> None:
        """Compare the files with the checksums that the graph states; the first call reads them, later ones nothing.

        A gigabyte takes about a second. Files without a checksum are not read.

        Raises:
            OnnxError: a file is another than the one that the graph was written with.
        """
        if self._is_verified:
            return
        for location, expected in self._checksums.items():
            digest = hashlib.sha1(usedforsecurity=False)
            self._files[location].hash_into(digest)
            if digest.hexdigest() != expected:
                raise self._fault(
                    f"states the SHA-1 {expected} for {quote(location)}, which has {digest.hexdigest()}: fetch the "
                    "file again, or export the model again"
                )
        self._is_verified = True

    def __iter__(self) -> Iterator[MappedFile]:
        return iter(self.files.values())

    def close(self) -> None:
        """Close the files; views stay valid."""
        for file in self._files.values():
            file.close()

    def _fault(self, message: str) -> OnnxError:
        return OnnxError(f"{self._label}: {message}")
