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
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights by GGUF name, as read-only views on the file.

        Raises:
            InputError: the file holds a type that llorch cannot run.
        """
        ...

    def forget_pages(self) -> None:
        """Release the pages read so far from this process's memory; tensors stay valid."""
        ...

    def close(self) -> None:
        """Close the file; tensors stay valid."""
        ...
