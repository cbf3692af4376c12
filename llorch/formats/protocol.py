"""`ModelSource`, the interface of model files of every format: metadata and tensors under GGUF names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llorch.quant.tensor import Tensor

MetadataValue: TypeAlias = bool | int | float | str | list[bytes] | NDArray[np.generic]
"""Scalars are Python's own. Arrays of strings are lists of bytes, because tokens need not be valid UTF-8;
arrays of numbers and booleans are read-only NumPy arrays of the stored type."""


class TensorSummary(Protocol):
    """What a file says of a tensor before it is read."""

    @property
    def name(self) -> str:
        """GGUF name."""
        ...

    @property
    def type_name(self) -> str:
        """ggml's name of the type."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """NumPy order."""
        ...

    @property
    def n_bytes(self) -> int:
        """Size of the data."""
        ...


class ModelSource(Protocol):
    """A model on disk; nothing is decoded or copied before its first access."""

    @property
    def path(self) -> Path:
        """The file or directory that was opened."""
        ...

    @property
    def metadata(self) -> Mapping[str, MetadataValue]:
        """Values by GGUF key."""
        ...

    @property
    def tensor_infos(self) -> Mapping[str, TensorSummary]:
        """Name, type, shape and size of every tensor by GGUF name, whether llorch can run its type or not."""
        ...

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights by GGUF name, as read-only views on the file.

        Raises:
            InputError: the file holds a type that llorch cannot run.
        """
        ...

    def forget_pages(self) -> None:
        """Release the pages read so far from this process's memory; tensors stay valid."""
        ...

    def changed(self) -> str | None:
        """What has happened to the file since it was opened; None if nothing has, or it is closed.

        Tensors are views: a file that was changed in place shows through them, one that was replaced by renaming
        another does not. Not to be called while `close` is.
        """
        ...

    def hashed(self) -> tuple[int, str]:
        """Size and SHA-256 of what was opened, all files of a split model one after the other; a second for 1 GB.

        Raises:
            InputError: a file was changed since it was opened, or cannot be read.
        """
        ...

    def close(self) -> None:
        """Close the file; tensors stay valid."""
        ...
