"""Opening a model, whatever its format: a GGUF file, a directory of Hugging Face, an ONNX graph."""

from __future__ import annotations

import os
from pathlib import Path

from llorch.errors import InputError
from llorch.formats.gguf.file import GGUFFile
from llorch.formats.hugging_face.directory import HuggingFaceDirectory
from llorch.formats.onnx.model import OnnxModel
from llorch.formats.printed import printable
from llorch.formats.protocol import ModelSource

__all__ = ["ModelSource", "open_source"]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_TO_SAFETENSORS = (
    "from transformers import AutoModelForCausalLM; "
    "AutoModelForCausalLM.from_pretrained('IN').save_pretrained('OUT', safe_serialization=True)"
)


def open_source(path: str | os.PathLike[str]) -> ModelSource:
    """Open a model of any known format; a directory is one of Hugging Face, or the folder of an ONNX graph.

    A folder without weights of its own may have the graph in ``onnx/``.

    Raises:
        InputError: there is no such model, or it is not one llorch can read; `ModelError` says what is wrong inside.
    """
    path = Path(path)
    if path.is_dir():
        return _open_directory(path)
    ending = path.suffix.lower()
    if ending == ".onnx":
        return OnnxModel(path)
    if ending == ".safetensors":
        raise InputError(
            f"{printable(path)}: holds weights only; name the directory in which it lies with config.json "
            f"({printable(path.parent)})"
        )
    if ending in _PICKLES:
        raise InputError(_pickle_message(path))
    return GGUFFile(path)


def _open_directory(path: Path) -> ModelSource:
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise InputError(f"{printable(path)}: cannot be read: {error.strerror or error}") from error
    graphs = [name for name in names if name.lower().endswith(".onnx")]
    weights = [name for name in names if name.endswith((".safetensors", ".safetensors.index.json"))]
    files = [name for name in names if name.lower().endswith(".gguf")]
    if not (weights or graphs or files) and (nested := _graphs_below(path)):
        graphs = nested
    if weights or not (graphs or files):
        if not weights and (pickles := [name for name in names if name.lower().endswith(_PICKLES)]):
            raise InputError(_pickle_message(path / pickles[0]))
        return HuggingFaceDirectory(path)
    if len(graphs) == 1:
        return OnnxModel(path / graphs[0])
    found = graphs or files
    if len(found) == 1:
        return GGUFFile(path / found[0])
    some = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
    raise InputError(f"{printable(path)}: holds {len(found)} models, name one of them: {some}")


def _graphs_below(path: Path) -> list[str]:
    """Graphs in the folder ``onnx/``, where some exporters put them."""
    folder = path / "onnx"
    if not folder.is_dir():
        return []
    return sorted(f"onnx/{entry.name}" for entry in folder.iterdir() if entry.suffix.lower() == ".onnx")


def _pickle_message(path: Path) -> str:
    return (
        f"{printable(path)}: is a pickle, which can run any code when it is opened, so llorch never opens it; write "
        f'its weights as safetensors where you trust it: python -c "{_TO_SAFETENSORS}"'
    )
