"""A GGUF file made from a model of another format."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from llorch.convert.general_metadata import size_label, title_of
from llorch.convert.gguf_metadata import pair
from llorch.convert.mixtures import FileType, file_type
from llorch.convert.quantize import REPLACED, Plan, choose_types, plan_file
from llorch.convert.written_beside import check_place
from llorch.errors import InputError
from llorch.formats.gguf.file import DEFAULT_ALIGNMENT, GGUFFile
from llorch.formats.printed import printable
from llorch.formats.protocol import MetadataValue, ModelSource
from llorch.quant.types import F32

TYPES_KEPT = ("F32", "F16", "BF16")
"""Types of weights that a file of the same type stores exactly; others, which are int8, are nearest to Q8_0."""

NO_TOKENIZER: dict[str, MetadataValue] = {"tokenizer.ggml.model": "none"}
"""What makes llama.cpp load a model without a vocabulary, for token ids only."""


def own_type(source: ModelSource) -> FileType:
    """The file type nearest to the type that most weights of `source` have."""
    n_elements: Counter[str] = Counter()
    for tensor in source.tensors.values():
        if len(tensor.shape) > 1:
            n_elements[tensor.type.name] += tensor.n_elements
    name = n_elements.most_common(1)[0][0] if n_elements else "F32"
    return file_type(name if name in TYPES_KEPT else "Q8_0")


def plan_conversion(source: ModelSource, path: Path, wanted: FileType, *, is_pure: bool = False) -> Plan:
    """Choose a type and a place for every tensor, and the metadata.

    Args:
        source: a Llama model in a format other than GGUF.
        path: where to write; a file that is there will be replaced.
        wanted: the file type.
        is_pure: whether every matrix gets the same type, as far as the length of its rows allows.

    Raises:
        InputError: `source` cannot be used, or nothing can be written at `path`.
    """
    if isinstance(source, GGUFFile):
        raise InputError(
            f"{printable(source.path)}: is a GGUF file; `llorch quantize` writes it with weights of another type"
        )
    check_place(path, ())
    _check_is_not_of_model(path, source.path)
    choice = choose_types(source, wanted, is_pure=is_pure, vectors=F32)
    pairs = [pair(key, value) for key, value in written_metadata(source).items()]
    return plan_file(path, wanted, pairs, choice, DEFAULT_ALIGNMENT)


def written_metadata(source: ModelSource) -> dict[str, MetadataValue]:
    """Metadata of the file, but for the keys that say what the types of the tensors are."""
    stated = {key: value for key, value in source.metadata.items() if key not in REPLACED}
    name = stated.pop("general.name", source.path.stem)
    n_parameters = sum(tensor.n_elements for tensor in source.tensors.values())
    general: dict[str, MetadataValue] = {
        "general.architecture": stated["general.architecture"],
        "general.type": "model",
        "general.name": title_of(str(name)),
        "general.size_label": size_label(n_parameters),
    }
    without = {} if "tokenizer.ggml.model" in stated else NO_TOKENIZER
    return general | stated | without


def _check_is_not_of_model(path: Path, source: Path) -> None:
    """Refuse to replace a file of the model's directory, but for GGUF files: any may be read meanwhile."""
    folder = (source if source.is_dir() else source.parent).resolve()
    if folder.name == "onnx":  # exporters put graphs one level below the tokenizer
        folder = folder.parent
    is_inside = path.parent.resolve().is_relative_to(folder)
    if is_inside and path.suffix.lower() != ".gguf" and os.path.lexists(path):
        raise InputError(
            f"{printable(path)}: lies in the directory of the model that is read; write to another place, or to a name "
            "that ends with .gguf"
        )
