"""From a path to a model that can compute: file, config, weights, tokenizer, kernels, in that order.

What a wrong file can get wrong is checked before anything slow or large happens; on any failure everything
taken so far is given back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from llorch.errors import InputError, LlorchError, ModelError
from llorch.formats.source import ModelSource, open_source
from llorch.kernels.jit import load_units
from llorch.model.config import ModelConfig
from llorch.model.llama import Llama, required_units
from llorch.model.weights import Weights
from llorch.progress import Progress
from llorch.quant.tensor import Tensor
from llorch.text.tokenizer import Tokenizer, load_tokenizer

DEMO = "demo"
DEMO_PATH = Path(__file__).parent / "assets" / "demo.gguf"
MAX_NAME_CHARS = 128


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model ready to compute. Close it to stop its threads and give its memory back.

    Attributes:
        name: what the file calls itself, else its name on disk.
        source: the open file.
        config: the sizes.
        weights: the checked weights.
        llama: the forward pass.
    """

    name: str
    source: ModelSource
    config: ModelConfig
    weights: Weights
    llama: Llama
    _tokenizer: Tokenizer | None

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back.

        Raises:
            LlorchError: the model was opened without it.
        """
        if self._tokenizer is None:
            raise LlorchError(f"{self.name} was opened without its tokenizer")
        return self._tokenizer

    def close(self) -> None:
        """Stop the compute threads and let go of the file."""
        self.llama.close()
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def resolve_model_path(model: str | os.PathLike[str]) -> Path:
    """The file that `model`, a path or ``"demo"``, stands for.

    Raises:
        InputError: there is nothing of that name.
    """
    if model == DEMO:
        if not DEMO_PATH.exists():
            raise InputError(f"the embedded model is missing from this installation ({DEMO_PATH})")
        return DEMO_PATH
    path = Path(model)
    if not os.path.exists(path):  # unlike Path.exists, False where a folder must not be searched
        hint = f" ({DEMO!r} is the embedded model)" if path.parent == Path() and not path.suffix else ""
        raise InputError(f"there is no model at {path}{hint}")
    return path


def open_model(
    model: str | os.PathLike[str] | ModelSource,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    with_tokenizer: bool = True,
    n_threads: int = 0,
    n_batch: int = 512,
    weights: str = "auto",
    kv_type: str = "f16",
    progress: Progress | None = None,
) -> OpenModel:
    """Open, check, compile and load: the one way to a model that computes.

    Args:
        model: a model file, ``"demo"``, or a file that is already open; this closes it, too, if it fails.
        tensors: in place of the file's own; must outlive the model.
        with_tokenizer: whether the vocabulary is read and checked.
        n_threads: compute threads; 0 as many as suit the machine.
        n_batch: most rows of one forward pass.
        weights: ``"packed"``, ``"mapped"`` or ``"auto"`` (residence of the weights).
        kv_type: number type of the KV caches to come, for which kernels are compiled.
        progress: told about ``"compiling"`` and ``"loading"``.

    Raises:
        InputError: the file cannot be used; `ModelError` says what is wrong inside it.
    """
    with ExitStack() as undo:
        source = open_source(resolve_model_path(model)) if isinstance(model, str | os.PathLike) else model
        undo.callback(source.close)
        config = ModelConfig.from_metadata(source.metadata)
        checked = Weights.from_tensors(config, source.tensors if tensors is None else tensors)
        tokenizer = _tokenizer_for(config, source) if with_tokenizer else None
        llama = Llama(
            config,
            checked,
            n_threads=n_threads,
            n_batch=n_batch,
            residence=weights,
            kv_type=kv_type,
            progress=progress,
        )
        if llama.residence.kind == "packed":
            source.forget_pages()  # else the file, read once, would count beside its copy
        undo.pop_all()
    return OpenModel(model_name(source), source, config, checked, llama, tokenizer)


def _tokenizer_for(config: ModelConfig, source: ModelSource) -> Tokenizer:
    """The tokenizer of `source`, which must have the tokens that the model computes logits for."""
    tokenizer = load_tokenizer(source.metadata)
    if tokenizer.vocab.n_vocab != config.n_vocab:
        raise ModelError(
            f"tokenizer.ggml.tokens has {tokenizer.vocab.n_vocab} entries, but the model computes logits "
            f"for {config.n_vocab} tokens"
        )
    return tokenizer


def compile_kernels_for(
    model: str | os.PathLike[str],
    *,
    weights: str = "auto",
    kv_type: str = "f16",
    progress: Progress | None = None,
) -> bool:
    """Compile what `open_model` would, and load nothing; True when nothing had to be compiled.

    Raises:
        InputError: the file cannot be used; `ModelError` says what is wrong inside it.
    """
    source = open_source(resolve_model_path(model))
    try:
        config = ModelConfig.from_metadata(source.metadata)
        checked = Weights.from_tensors(config, source.tensors)
        return load_units(required_units(config, checked, weights, kv_type), progress)
    finally:
        source.close()


def open_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a model file, or of one that holds a vocabulary and nothing else.

    Raises:
        InputError: the file cannot be used; `ModelError` says what is wrong inside it.
    """
    source = open_source(resolve_model_path(path))
    try:
        return load_tokenizer(source.metadata)
    finally:
        source.close()


def model_name(source: ModelSource) -> str:
    """What the file calls itself (`general.name`), else its name on disk without the ending."""
    name = source.metadata.get("general.name")
    words = " ".join(name.split()) if isinstance(name, str) else ""
    return words[:MAX_NAME_CHARS] or source.path.stem.encode("utf-8", "backslashreplace").decode()
