"""Records: JSON of dumps and bundles as pydantic models, and reading files that may be damaged or forged.

Every fault is a `ReferenceDumpError` of one line that names the file, the key, what it holds and what was expected.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic_core import ErrorDetails

from llorch.errors import ReferenceDumpError, shown
from llorch.formats.printed import printable
from llorch.machine.input_file import opened_input

_NPY_HEADER_BYTES_AT_MOST = 4096
_UNREADABLE = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Record(BaseModel):
    """One JSON object; values are taken as they are, never converted."""

    model_config = ConfigDict(frozen=True, strict=True)


def _sha256(text: str) -> str:
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ValueError("64 hex digits")
    return text


Sha256 = Annotated[str, AfterValidator(_sha256)]
Count = Annotated[int, Field(ge=0)]
Figure = Annotated[
    float,
    Field(strict=False),
    PlainSerializer(lambda value: value if math.isfinite(value) else str(value), when_used="json"),
]
"""A float that may be NaN or infinite, which JSON lacks: those are written as strings."""

R = TypeVar("R", bound=Record)


class HashedFile(Record, extra="forbid"):
    """A file as it was when its hash was recorded."""

    file: str = ""
    sha256: Sha256
    bytes: Count = 0

    def require(self, path: Path, where: str) -> None:
        """Refuse `path` when it is another file or cannot be read; `where` names it in the message."""
        try:
            found = sha256_of_file(path)
        except OSError as error:
            raise ReferenceDumpError(f"{where} cannot be read: {error.strerror}") from None
        if found != self.sha256:
            recorded = f"recorded {self.sha256[:16]}…"
            raise ReferenceDumpError(f"{where} was altered: sha256 {found[:16]}…, {recorded}")


def sha256_of_file(path: Path) -> str:
    """Hash of a whole file."""
    with opened_input(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_record(model: type[R], content: bytes, where: str) -> R:
    """Read one record from its JSON; `where` names the file in messages."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise ReferenceDumpError(f"{where}{_fault(error.errors()[0])}") from None


def _fault(error: ErrorDetails) -> str:
    """The first fault that pydantic found."""
    kind, value = error["type"], shown(error["input"])
    expected = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    names = ": ".join(part for part in error["loc"] if isinstance(part, str) and part != "[key]")
    if kind == "json_invalid":
        return f" is no JSON: {error['ctx']['error']}"
    if kind in ("missing", "extra_forbidden"):
        return f": {names} is {'missing' if kind == 'missing' else 'not a known key'}"
    return f": {names} is {value}, expected {expected}" if names else f" holds {value}, expected {expected}"


def read_record(model: type[R], path: Path, bytes_at_most: int) -> R:
    """Read a file that holds one record, and no file larger than `bytes_at_most`."""
    try:
        with opened_input(path) as file:
            content = file.read(bytes_at_most + 1)
        if len(content) > bytes_at_most:
            raise ReferenceDumpError(f"{printable(path)} is larger than {bytes_at_most >> 20} MiB")
        return parse_record(model, content, printable(path))
    except OSError as error:
        raise ReferenceDumpError(f"{printable(path)} cannot be read: {error.strerror}") from None


class ArrayFile:
    """An npz file, opened; arrays are read when they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except _UNREADABLE as error:
            raise ReferenceDumpError(f"{printable(path)} cannot be opened: {error}") from None

    def missing(self, keys: set[str]) -> list[str]:
        """Those of `keys` for which there is no array."""
        return sorted(keys - {name.removesuffix(".npy") for name in self._archive.namelist()})

    def read(self, key: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        """One array; with a `shape`, nothing larger than float32 of that shape is taken into memory."""
        where = f"{printable(self._path)}: {key}"
        try:
            n_bytes = self._archive.getinfo(f"{key}.npy").file_size
            if shape is not None and not 0 <= n_bytes - 4 * math.prod(shape) <= _NPY_HEADER_BYTES_AT_MOST:
                raise ReferenceDumpError(f"{where} takes {n_bytes} bytes, expected shape {shape}")
            with self._archive.open(f"{key}.npy") as member:
                values: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        except KeyError:
            raise ReferenceDumpError(f"{where} is missing") from None
        except _UNREADABLE as error:
            raise ReferenceDumpError(f"{where} cannot be read: {error}") from None
        return values
