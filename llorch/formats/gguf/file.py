"""GGUF, llama.cpp's model format, read through a memory map.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Self

from llorch.errors import GGUFError, LlorchError
from llorch.formats.gguf.metadata import GGUFMetadata
from llorch.formats.gguf.reader import printable
from llorch.formats.gguf.split import open_parts
from llorch.formats.gguf.tensors import TensorInfo, unsupported_type_message
from llorch.quant.tensor import Tensor
from llorch.quant.types import SUPPORTED


class GGUFFile:
    """A GGUF model (a `ModelSource`), its header fully checked; the parts of a split model appear as one.

    Attributes:
        path: the file that was opened.
        version: of the format, 2 or 3.
        alignment: tensor offsets are multiples of it.
        metadata: values by key, those of the first part.
        tensor_infos: by name, of all parts, whether llorch can run their types or not.
        part_paths: every file of the model; one unless it is split.
        n_bytes: size of all files together.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Map the file and check its header; time and memory depend on the header only, not on the weights.

        Raises:
            GGUFError: the file cannot be opened or is malformed; the message names the file and the key or
                tensor.
        """
        self._path = Path(path)
        self._parts = open_parts(self._path)
        first = self._parts[0]
        self.version = first.version
        self.alignment = first.alignment
        self._metadata = first.metadata
        self.tensor_infos: Mapping[str, TensorInfo] = MappingProxyType(
            {info.name: info for part in self._parts for info in part.tensor_infos}
        )
        self.part_paths = tuple(part.path for part in self._parts)
        self.n_bytes = sum(part.n_bytes for part in self._parts)
        self._is_closed = False

    @property
    def path(self) -> Path:
        """The file that was opened."""
        return self._path

    @property
    def metadata(self) -> GGUFMetadata:
        """Values by key; arrays are decoded at their first access."""
        return self._metadata

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights by name, read-only views on the file.

        Raises:
            GGUFError: a tensor has a type that llorch cannot run.
        """
        if self._is_closed:
            raise LlorchError(f"{printable(self._path)}: is closed")
        tensors = {}
        for info in self.tensor_infos.values():
            if not info.is_supported:
                raise GGUFError(f"{printable(self.part_paths[info.part])}: {unsupported_type_message(info)}")
            data = self._parts[info.part].tensor_data(info)
            tensors[info.name] = Tensor(info.name, SUPPORTED[info.type_id], info.shape, data)
        return MappingProxyType(tensors)

    def forget_pages(self) -> None:
        """Release the pages read so far from this process's memory; views stay valid."""
        for part in self._parts:
            part.forget_pages()

    def close(self) -> None:
        """Close the file. A second call does nothing.

        Tensors stay valid: the file stays mapped until the last one is freed. Metadata arrays that were not read
        before cannot be read afterwards.
        """
        self._is_closed = True
        self.__dict__.pop("tensors", None)
        for part in self._parts:
            part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
