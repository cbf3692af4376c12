"""From a path to a model that can compute: file, config, weights, tokenizer, kernels, in that order.

What a wrong file can get wrong is checked before anything slow or large happens; on any failure everything
taken so far is given back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from llorch.chat.choose import choose_chat_template
from llorch.chat.structure import ModelStructure
from llorch.chat.template import ChatTemplate
from llorch.errors import InputError, LlorchError, ModelError
from llorch.formats.printed import printable
from llorch.formats.source import ModelSource, open_source
from llorch.kernels.jit import load_units
from llorch.model.config import ModelConfig
from llorch.model.llama import Llama, required_units
from llorch.model.residence import choose_residence
from llorch.model.weights import Weights
from llorch.model_files import model_name, resolve_model_path, warn_about
from llorch.progress import Progress, ignore_progress
from llorch.quant.tensor import Tensor
from llorch.text.tokenizer import Tokenizer, load_tokenizer

_FORGET_BYTES = 64 << 20
"""Of the file, packed between two releases of the pages that were read for it."""


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
    _chat_template: ChatTemplate | None = None
    _structure: ModelStructure | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back.

        Raises:
            LlorchError: the model was opened without it.
        """
        if self._tokenizer is None:
            raise LlorchError(f"{self.name} was opened without its tokenizer")
        return self._tokenizer

    @property
    def chat_template(self) -> ChatTemplate:
        """Messages to prompts; one that cannot be used says so in every request.

        Raises:
            LlorchError: the model was opened without it.
        """
        if self._chat_template is None:
            raise LlorchError(f"{self.name} was opened without its chat template")
        return self._chat_template

    @property
    def structure(self) -> ModelStructure:
        """Grammars of answers, and calls of tools in them.

        Raises:
            LlorchError: the model was opened without its chat template.
        """
        if self._structure is None:
            raise LlorchError(f"{self.name} was opened without its chat template")
        return self._structure

    def close(self) -> None:
        """Stop the compute threads and let go of the file."""
        self.llama.close()
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_model(
    model: str | os.PathLike[str] | ModelSource,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    with_tokenizer: bool = True,
    with_chat_template: bool = False,
    n_threads: int = 0,
    n_batch: int = 512,
    weights: str = "auto",
    kv_type: str = "f16",
    numa: str = "off",
    pin_threads: bool = False,
    override_pre: str | None = None,
    chat_template: str | None = None,
    progress: Progress = ignore_progress,
) -> OpenModel:
    """Open, check, compile and load: the one way to a model that computes.

    Args:
        model: a model file, ``"demo"``, or a file that is already open; this closes it, too, if it fails.
        tensors: in place of the file's own; must outlive the model.
        with_tokenizer: whether the vocabulary is read and checked.
        with_chat_template: whether the chat template is compiled and tried; takes the tokenizer.
        n_threads: compute threads; 0 as many as suit the machine.
        n_batch: most rows of one forward pass.
        weights: ``"packed"``, ``"mapped"`` or ``"auto"`` (residence of the weights).
        kv_type: number type of the KV caches to come, for which kernels are compiled.
        numa: ``"off"``, ``"distribute"``, ``"isolate"`` or ``"numactl"``: NUMA nodes to compute on.
        pin_threads: whether every compute thread is bound to a core.
        override_pre: name of the pre-tokenizer, in place of the one the file names.
        chat_template: name, file or text of one, in place of the file's own.
        progress: told about ``"kernels"``, ``"compiling"`` and ``"loading"``.

    Raises:
        InputError: the file cannot be used; `ModelError` says what is wrong inside it.
    """
    with ExitStack() as undo:
        source = open_source(resolve_model_path(model)) if isinstance(model, str | os.PathLike) else model
        undo.callback(source.close)
        contents = check_source(
            source, tensors=tensors, with_tokenizer=with_tokenizer, override_pre=override_pre
        )
        tokenizer, template = contents.tokenizer, None
        oddities = list(contents.oddities)
        if with_chat_template and tokenizer is not None:
            tokenizer, template = _with_chat_template(source, tokenizer, chat_template, oddities)
        warn_about(source, oddities)
        if choose_residence(contents.weights, weights)[0] == "packed":
            progress = _forgetting(source, progress)
        llama = Llama(
            contents.config,
            contents.weights,
            n_threads=n_threads,
            n_batch=n_batch,
            residence=weights,
            kv_type=kv_type,
            numa=numa,
            pin_threads=pin_threads,
            progress=progress,
        )
        if llama.residence.kind == "packed":
            source.forget_pages()
        if change := source.changed():
            raise InputError(f"{printable(source.path)}: changed while it was loaded ({change})")
        undo.pop_all()
    config, placed = contents.config, contents.weights
    structure = None if tokenizer is None or template is None else ModelStructure(tokenizer, template)
    return OpenModel(model_name(source), source, config, placed, llama, tokenizer, template, structure)


def _forgetting(source: ModelSource, progress: Progress) -> Progress:
    """`progress`, which releases pages of the file as they are packed; else they would count beside their copies."""
    forgotten = 0

    def report(what: str, done: int, total: int) -> None:
        nonlocal forgotten
        if what == "loading" and done - forgotten >= _FORGET_BYTES:
            forgotten = done
            source.forget_pages()
        progress(what, done, total)

    return report


def _with_chat_template(
    source: ModelSource, tokenizer: Tokenizer, override: str | None, oddities: list[str]
) -> tuple[Tokenizer, ChatTemplate]:
    """The chat template, and a tokenizer for which the token that it puts behind an answer is an end."""
    template, note = choose_chat_template(source.metadata, tokenizer, override)
    if note:
        oddities.append(note)
    if template.end_id is not None and not tokenizer.is_eog(template.end_id):
        tokenizer = tokenizer.with_end(template.end_id)
    return tokenizer, template


@dataclass(frozen=True, slots=True)
class ModelContents:
    """What is in a model file, checked before anything slow or large happens.

    Attributes:
        config: the sizes.
        weights: named, typed and shaped as the sizes imply.
        tokenizer: if it was asked for.
        oddities: what is odd in the file but does not keep it from being used, a clause for each.
    """

    config: ModelConfig
    weights: Weights
    tokenizer: Tokenizer | None
    oddities: tuple[str, ...]


def check_source(
    source: ModelSource,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    with_tokenizer: bool = True,
    override_pre: str | None = None,
) -> ModelContents:
    """Check everything in a file but the values of its matrices; a large vocabulary takes the longest, 0.7 s.

    Args:
        source: the open file.
        tensors: in place of the file's own.
        with_tokenizer: whether the vocabulary is read and checked.
        override_pre: name of the pre-tokenizer, in place of the one the file names.

    Raises:
        ModelError: naming the key or tensor, and what is wrong with it.
        InputError: there is no pre-tokenizer named `override_pre`.
    """
    oddities: list[str] = []
    config = ModelConfig.from_metadata(source.metadata, oddities)
    tensors = source.tensors if tensors is None else tensors
    _check_vocabulary_size(config, source, tensors)
    weights = Weights.from_tensors(config, tensors)
    tokenizer = load_tokenizer(source.metadata, oddities, override_pre) if with_tokenizer else None
    return ModelContents(config, weights, tokenizer, tuple(oddities))


def check_model(
    model: str | os.PathLike[str], *, override_pre: str | None = None, chat_template: str | None = None
) -> None:
    """Check what `check_source` checks in a model file, or in ``"demo"``, and a chat template given in its place.

    Raises:
        InputError: the file cannot be used; `ModelError` says what is wrong inside it.
    """
    source = open_source(resolve_model_path(model))
    try:
        tokenizer = check_source(source, override_pre=override_pre).tokenizer
        if chat_template is not None and tokenizer is not None:
            choose_chat_template(source.metadata, tokenizer, chat_template)
    finally:
        source.close()


def _check_vocabulary_size(config: ModelConfig, source: ModelSource, tensors: Mapping[str, Tensor]) -> None:
    """Name every number that claims to be the size of the vocabulary if the tokens are not as many as the rows."""
    for name in ("token_embd.weight", "output.weight"):
        n_rows = tensors[name].shape[0] if name in tensors else config.n_vocab
        if n_rows != config.n_vocab and "tokenizer.ggml.tokens" in source.metadata:
            stated = source.metadata.get("llama.vocab_size", "absent")
            raise ModelError(
                f"tokenizer.ggml.tokens has {config.n_vocab} entries, but {name} has {n_rows} rows, one for each "
                f"token (llama.vocab_size: {stated})"
            )


def compile_kernels_for(
    model: str | os.PathLike[str],
    *,
    weights: str = "auto",
    kv_type: str = "f16",
    progress: Progress = ignore_progress,
) -> bool:
    """Compile what `open_model` would, and load nothing; True when nothing had to be compiled.

    Raises:
        InputError: the file cannot be used; `ModelError` says what is wrong inside it.
    """
    source = open_source(resolve_model_path(model))
    try:
        contents = check_source(source, with_tokenizer=False)
        return load_units(required_units(contents.config, contents.weights, weights, kv_type), progress)
    finally:
        source.close()
