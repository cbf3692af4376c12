"""What all models over mapped files do alike: watch their files, hash them, give their pages back, close them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from llorch.errors import LlorchError, ModelError
from llorch.formats.mapped_file import MappedFile
from llorch.formats.printed import printable


class MappedModel(ABC):
    """The part of a `ModelSource` that depends on its files alone; `tensors` is a cached property of the subclass."""

    _error: type[ModelError] = ModelError
    """Raised about files that were changed."""

    def __init__(self, path: Path) -> None:
        """Remember the place; nothing is opened yet."""
        self._path = path
        self._is_closed = False

    @abstractmethod
    def _files(self) -> Iterable[MappedFile]:
        """Every file that was opened, in the order in which they are hashed."""

    @property
    def path(self) -> Path:
        """The file or directory that was opened."""
        return self._path

    @property
    def n_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.n_bytes for file in self._files())

    def _require_open(self) -> None:
        if self._is_closed:
            raise LlorchError(f"{printable(self._path)}: is closed")

    def forget_pages(self) -> None:
        """Release the pages read so far from this process's memory; views stay valid."""
        for file in self._files():
            file.forget_pages()

    def changed(self) -> str | None:
        """What has happened to a file of the model since it was opened; None if nothing has, or it is closed."""
        return next((change for file in self._files() if (change := file.changed())), None)

    def hashed(self) -> tuple[int, str]:
        """Size and SHA-256 of what was opened, one file after the other.

        Raises:
            ModelError: a file was changed since it was opened, or cannot be read.
        """
        digest = hashlib.sha256()
        for file in self._files():
            file.hash_into(digest)
        if change := self.changed():
            raise self._error(f"{printable(self._path)}: was changed since it was opened ({change})")
        return self.n_bytes, digest.hexdigest()

    def close(self) -> None:
        """Close the files; tensors stay valid, as a file stays mapped until the last of them is freed.

        A second call does nothing.
        """
        self._is_closed = True
        self.__dict__.pop("tensors", None)
        for file in self._files():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
