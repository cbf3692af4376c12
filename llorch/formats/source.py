"""Opening a model file, whatever its format."""

from __future__ import annotations

import os

from llorch.formats.gguf.file import GGUFFile
from llorch.formats.protocol import ModelSource

__all__ = ["ModelSource", "open_source"]


def open_source(path: str | os.PathLike[str]) -> ModelSource:
    """Open a model file of any known format.

    Raises:
        InputError: there is no such file, or it is not a model llorch can read; `GGUFError` for GGUF files.
    """
    return GGUFFile(path)
