"""What every model file offers, whatever its format: metadata and tensors under GGUF names."""

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
    """A model on disk. Nothing is decoded or copied until it is asked for."""

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
        """Stop counting what was read of the file as this process's memory; tensors stay valid."""
        ...

    def close(self) -> None:
        """Give the file back; tensors already handed out stay valid."""
        ...
