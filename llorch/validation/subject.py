"""The model under test: our engine with the weights that a reference was computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llorch.errors import InputError, ModelError, ReferenceDumpError
from llorch.formats.source import ModelSource, open_source
from llorch.machine.memory import available_memory
from llorch.model.config import ModelConfig
from llorch.model.llama import Llama
from llorch.open_model import OpenModel, open_model
from llorch.progress import Progress
from llorch.quant.tensor import Tensor, dequantize
from llorch.quant.types import F32
from llorch.text.tokenizer import load_tokenizer
from llorch.validation.bundle import sha256_of_file
from llorch.validation.dumps import Reference

_SHARE_OF_FREE = 0.9


@dataclass(frozen=True, slots=True)
class Subject:
    """A model ready to be held against a reference.

    Attributes:
        path: its file.
        sha256: hash of that file.
        weights_note: how its weights became the reference's.
        prompt_note: how the prompt's ids were checked.
        model: the open model.
    """

    path: Path
    sha256: str
    weights_note: str
    prompt_note: str
    model: OpenModel

    @property
    def config(self) -> ModelConfig:
        """Sizes."""
        return self.model.config

    @property
    def llama(self) -> Llama:
        """The engine."""
        return self.model.llama

    def close(self) -> None:
        """Stop the compute threads and let go of the file."""
        self.model.close()


def open_subject(
    path: Path,
    reference: Reference,
    *,
    n_threads: int = 0,
    residence: str = "auto",
    progress: Progress | None = None,
) -> Subject:
    """Open a model for a reference, and refuse any other model or prompt than the reference's.

    Raises:
        ReferenceDumpError: the reference was made from another model, other weights or another prompt.
        InputError: the file cannot be used, or its F32 expansion does not fit into memory.
    """
    with ExitStack() as undo:
        source = open_source(path)
        undo.callback(source.close)
        sha256 = sha256_of_file(path)
        reference.require_model(sha256)
        _require_sizes(ModelConfig.from_metadata(source.metadata), reference)
        tensors, note = reference_tensors(source.tensors, sha256, reference)
        if tensors is not source.tensors:
            residence = "mapped"  # they were just made in memory; packing would copy them once more
        prompt_note = _check_prompt(source, reference)
        model = open_model(
            source,
            tensors=tensors,
            with_tokenizer=False,
            n_threads=n_threads,
            n_batch=len(reference.prompt_token_ids),
            weights=residence,
            kv_type="f32",
            progress=progress,
        )
        undo.pop_all()
    return Subject(path, sha256, note, prompt_note, model)


def _require_sizes(config: ModelConfig, reference: Reference) -> None:
    for name in reference.sizes.__slots__:
        ours, theirs = getattr(config, name), getattr(reference.sizes, name)
        if ours != theirs:
            raise ReferenceDumpError(
                f"{reference.directory} says {name} is {theirs}, but the model has {ours}"
            )


def _check_prompt(source: ModelSource, reference: Reference) -> str:
    try:
        tokenizer = load_tokenizer(source.metadata)
    except ModelError as error:
        return f"ids taken from the reference ({error})"
    reference.require_prompt(tuple(tokenizer.encode(reference.prompt)))
    return "our tokenizer gives the same ids"


def reference_tensors(
    tensors: Mapping[str, Tensor], sha256: str, reference: Reference
) -> tuple[Mapping[str, Tensor], str]:
    """The tensors that the reference was run with, and a note on how they came about.

    The F32 twin of a quantised model is made in memory; the hash in the manifest proves that it is the same
    as the file llama.cpp ran.

    Raises:
        ReferenceDumpError: the expanded weights are not the twin's.
        InputError: they do not fit into memory.
    """
    if reference.twin_sha256 in (None, sha256):
        return tensors, "the file that the reference was run with"
    n_bytes = sum(4 * tensor.n_elements for tensor in tensors.values())
    if n_bytes > _SHARE_OF_FREE * available_memory():
        raise InputError(
            f"the F32 twin takes {n_bytes / 1e9:.1f} GB of memory; "
            "write it with tools/reference/make_f32_twin.py and give its file with -m"
        )
    twin = {name: _expanded(tensor) for name, tensor in tensors.items()}
    digest = hashlib.sha256()
    for name in sorted(twin):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(twin[name].data).data)
    if digest.hexdigest() != reference.twin_weights_sha256:
        raise ReferenceDumpError(
            f"{reference.directory} was run with weights of sha256 {(reference.twin_weights_sha256 or '')[:16]}…, "
            f"but ours expand to {digest.hexdigest()[:16]}…"
        )
    return (
        twin,
        f"expanded to F32 in memory; sha256 {digest.hexdigest()[:16]}… over all weights as in the twin",
    )


def _expanded(tensor: Tensor) -> Tensor:
    values = np.ascontiguousarray(dequantize(tensor).astype("<f4", copy=False))
    return Tensor(tensor.name, F32, tensor.shape, values.reshape(-1).view(np.uint8))
