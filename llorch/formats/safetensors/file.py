"""One safetensors file, read through a memory map."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from llorch.errors import SafetensorsError
from llorch.formats.mapped_file import MappedFile
from llorch.formats.printed import printable
from llorch.formats.safetensors.header import SafetensorsInfo, read_header


class SafetensorsFile(MappedFile):
    """A safetensors file, its header fully checked.

    Attributes:
        infos: the tensors by name, in the order of their data, whatever their types.
        metadata: what the file says of itself.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Map the file and check its header; time and memory depend on the header only, not on the weights.

        Raises:
            SafetensorsError: the file cannot be opened or is malformed; the message names the file and the tensor.
        """
        super().__init__(Path(path), "a safetensors file", SafetensorsError)
        try:
            with memoryview(self.bytes) as view:
                infos, metadata = read_header(view, self.n_bytes, printable(self.path))
        except BaseException:
            self.close()
            raise
        self.infos: Mapping[str, SafetensorsInfo] = MappingProxyType(infos)
        self.metadata: Mapping[str, str] = MappingProxyType(metadata)

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor: uint8, read-only, a view that keeps the map alive, at any address."""
        info = self.infos[name]
        if not info.n_bytes:
            return np.empty(0, np.uint8)
        return np.frombuffer(self.bytes, np.uint8, info.n_bytes, info.begin)
