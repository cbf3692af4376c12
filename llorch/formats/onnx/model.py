"""An ONNX model, as a `ModelSource`: its graph, and the configuration and tokenizer that lie beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llorch.errors import OnnxError
from llorch.formats.folder import file_inside
from llorch.formats.hugging_face.beside_weights import CONFIG, MAX_CONFIG_BYTES, files_beside_weights, name_of
from llorch.formats.hugging_face.tokenizer import tokenizer_metadata
from llorch.formats.json_file import read_json
from llorch.formats.mapped_file import MappedFile
from llorch.formats.mapped_model import MappedModel
from llorch.formats.onnx.config_check import with_config
from llorch.formats.onnx.inventory import inventory
from llorch.formats.onnx.open_graph import read_graph
from llorch.formats.onnx.recognise import Recognised, recognise
from llorch.formats.printed import printable, quote
from llorch.formats.protocol import MetadataValue, TensorSummary
from llorch.quant.tensor import Tensor


@dataclass(frozen=True, slots=True)
class _Summary:
    """A `TensorSummary`."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    n_bytes: int


class OnnxModel(MappedModel):
    """An ONNX model (a `ModelSource`), its weights mapped.

    Opening reads the graph; metadata and tensors take a graph that is recognised as Llama, the inventory does not.
    """

    _error = OnnxError

    def __init__(self, path: Path) -> None:
        """Map the files and read the graph; time and memory do not depend on the weights.

        Raises:
            OnnxError: a file is missing or malformed, or of a version that is not supported.
        """
        super().__init__(path)
        self._home = _home(path)
        self._opened = read_graph(path)
        self._beside: list[MappedFile] = []
        try:
            for name in files_beside_weights(self._home):
                found = file_inside(self._home, name, printable(path), OnnxError)
                self._beside.append(MappedFile(found, "a file", OnnxError))
        except BaseException:
            self.close()
            raise

    def inventory(self) -> dict[str, Any]:
        """What is in the graph, counted, as JSON can hold it; see `llorch.formats.onnx.inventory`."""
        return inventory(self._opened)

    @cached_property
    def _recognised(self) -> Recognised:
        if sparse := self._opened.graph.sparse:
            raise OnnxError(
                f"{printable(self._path)}: initializer {quote(sparse[0])} is sparse, which is not run; export the "
                "model with dense weights"
            )
        return recognise(self._opened.graph, printable(self._path))

    @cached_property
    def metadata(self) -> Mapping[str, MetadataValue]:
        """Values by GGUF key: of the graph, and of the files beside it.

        Raises:
            ModelError: the graph is no Llama model, or the files contradict it.
        """
        config = read_json(self._home / CONFIG, MAX_CONFIG_BYTES) if self._has_config else {}
        found = {
            "general.architecture": "llama",
            "general.name": name_of(self._home),
            **self._recognised.metadata,
        }
        if config:
            found = with_config(found, config, printable(self._path), printable(self._home / CONFIG))
        n_vocab = found.get("llama.vocab_size")
        if isinstance(n_vocab, int):
            found |= tokenizer_metadata(self._home, n_vocab, config)
        return MappingProxyType(found)

    @property
    def _has_config(self) -> bool:
        return any(file.path.name == CONFIG for file in self._beside)

    @property
    def tensor_infos(self) -> Mapping[str, TensorSummary]:
        """The tensors by GGUF name.

        Raises:
            OnnxError: the graph is no Llama model.
        """
        return MappingProxyType(
            {
                name: _Summary(name, tensor.type.name, tensor.shape, tensor.n_bytes)
                for name, tensor in self._recognised.tensors.items()
            }
        )

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights by GGUF name; matrices are read-only views on the files.

        Files for which the graph states a checksum are read once before the first access.

        Raises:
            OnnxError: the graph is no Llama model, or a file does not have its checksum.
        """
        self._require_open()
        self._opened.external.verify()
        return MappingProxyType(self._recognised.tensors)

    def _files(self) -> Iterator[MappedFile]:
        """The graph, its external files in the order of their names, and the files beside it."""
        yield from self._opened.files()
        yield from self._beside


def _home(path: Path) -> Path:
    """The directory of the configuration and the tokenizer: the graph's, or the one around it if that is ``onnx/``."""
    beside = path.parent
    if beside.resolve().name == "onnx" and not files_beside_weights(beside):
        return beside.resolve().parent if beside == Path() else beside.parent
    return beside
