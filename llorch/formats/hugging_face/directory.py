"""A directory of a Hugging Face model, as a `ModelSource`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from llorch.errors import ModelError
from llorch.formats.folder import file_inside
from llorch.formats.hugging_face.beside_weights import CONFIG, MAX_CONFIG_BYTES, files_beside_weights, name_of
from llorch.formats.hugging_face.compressed import quantization_of
from llorch.formats.hugging_face.config import read_config
from llorch.formats.hugging_face.stored_tensors import MadeTensor, StoredTensor, match_tensors
from llorch.formats.hugging_face.tokenizer import tokenizer_metadata
from llorch.formats.json_file import read_json
from llorch.formats.mapped_file import MappedFile
from llorch.formats.mapped_model import MappedModel
from llorch.formats.printed import printable
from llorch.formats.protocol import MetadataValue, TensorSummary
from llorch.formats.safetensors.shards import open_safetensors
from llorch.quant.tensor import Tensor


class HuggingFaceDirectory(MappedModel):
    """A directory with `config.json`, safetensors and a tokenizer (a `ModelSource`), its weights mapped."""

    def __init__(self, path: Path) -> None:
        """Map the files and check headers, config and vocabulary; time and memory do not depend on the weights.

        Raises:
            ModelError: a file is missing or malformed, or the model is none that llorch can run; the message names
                the file, and the key or tensor.
        """
        super().__init__(path)
        self._opened: list[MappedFile] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        path = self._path
        self._opened += [
            MappedFile(file_inside(path, name, printable(path)), "a file") for name in _small_files(path)
        ]
        label = printable(path / CONFIG)
        config = read_json(path / CONFIG, MAX_CONFIG_BYTES)
        read = read_config(config, label)
        int8 = quantization_of(config, label)
        shards = open_safetensors(path)
        self._opened += shards
        self._stored: dict[str, StoredTensor | MadeTensor] = {
            **match_tensors(shards, read.sizes, int8, label)
        }
        if read.rope.divisors is not None:
            self._stored["rope_freqs.weight"] = MadeTensor("rope_freqs.weight", read.rope.divisors)
        self._metadata: dict[str, MetadataValue] = {
            "general.name": name_of(path),
            **read.metadata(),
            **tokenizer_metadata(path, read.sizes.n_vocab, config),
        }

    def _files(self) -> list[MappedFile]:
        """config.json first, the weights last."""
        return self._opened

    @property
    def metadata(self) -> Mapping[str, MetadataValue]:
        """Values by GGUF key."""
        return MappingProxyType(self._metadata)

    @property
    def tensor_infos(self) -> Mapping[str, TensorSummary]:
        """The tensors by GGUF name, whether llorch can run their types or not."""
        return MappingProxyType(self._stored)

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights by GGUF name; matrices are read-only views on the files.

        Raises:
            ModelError: a tensor has a type that llorch cannot run.
        """
        self._require_open()
        return MappingProxyType({name: stored.tensor() for name, stored in self._stored.items()})


def _small_files(directory: Path) -> list[str]:
    """The files beside the weights that are there, config.json first."""
    if not (directory / CONFIG).exists():
        raise ModelError(
            f"{printable(directory)}: holds no {CONFIG}; it lies beside the weights of every model"
        )
    return files_beside_weights(directory)
