"""The model under test: our engine with the weights that a reference was computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llorch.errors import InputError, ModelError, ReferenceDumpError
from llorch.formats.source import ModelSource, open_source
from llorch.machine.memory import available_memory
from llorch.model.config import ModelConfig
from llorch.model.llama import Llama
from llorch.open_model import OpenModel, open_model
from llorch.progress import Progress, ignore_progress
from llorch.quant.tensor import Tensor, dequantize
from llorch.quant.types import F32
from llorch.text.tokenizer import load_tokenizer
from llorch.validation.dumps import Reference

_SHARE_OF_FREE = 0.9


@dataclass(frozen=True, slots=True)
class Subject:
    """A model ready to be held against a reference.

    Attributes:
        model: the open model.
        notes: its file and hash, how weights and prompt were made sure to be the reference's, how it runs.
    """

    model: OpenModel
    notes: dict[str, Any]

    @property
    def llama(self) -> Llama:
        """The engine."""
        return self.model.llama


def open_subject(
    path: Path,
    reference: Reference,
    *,
    n_threads: int = 0,
    residence: str = "auto",
    override_pre: str | None = None,
    progress: Progress = ignore_progress,
) -> Subject:
    """Open a model for a reference, and refuse any other model or prompt than the reference's.

    Raises:
        ReferenceDumpError: the reference was made from another model, other weights or another prompt.
        InputError: the file cannot be used, or its F32 expansion does not fit into memory.
    """
    with ExitStack() as undo:
        source = open_source(path)
        undo.callback(source.close)
        _, sha256 = source.hashed()
        reference.require_model(sha256)
        _require_sizes(ModelConfig.from_metadata(source.metadata), reference)
        tensors, weights_note = reference_tensors(source.tensors, sha256, reference)
        if tensors is not source.tensors:
            residence = "mapped"  # they were just made in memory; packing would copy them once more
        prompt_note = _check_prompt(source, reference, override_pre)
        model = open_model(
            source,
            tensors=tensors,
            with_tokenizer=False,
            n_threads=n_threads,
            n_batch=len(reference.manifest.prompt.token_ids),
            weights=residence,
            kv_type="f32",
            progress=progress,
        )
        undo.pop_all()
    notes = {"path": path.name, "sha256": sha256, "weights": weights_note, "prompt": prompt_note}
    how_it_runs = {"residence": model.llama.residence.kind, "n_threads": model.llama.n_threads}
    return Subject(model, notes | how_it_runs)


def _require_sizes(config: ModelConfig, reference: Reference) -> None:
    for name, theirs in reference.manifest.model.sizes:
        if (ours := getattr(config, name)) != theirs:
            raise ReferenceDumpError(
                f"{reference.directory} says {name} is {theirs}, but the model has {ours}"
            )


def _check_prompt(source: ModelSource, reference: Reference, override_pre: str | None) -> str:
    try:
        tokenizer = load_tokenizer(source.metadata, override_pre=override_pre)
    except ModelError as error:
        return f"ids taken from the reference ({error})"
    reference.require_prompt(tuple(tokenizer.encode(reference.manifest.prompt.text)))
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
    twin = reference.manifest.twin
    if twin is None or twin.sha256 == sha256:
        return tensors, "the file that the reference was run with"
    n_bytes = sum(4 * tensor.n_elements for tensor in tensors.values())
    if n_bytes > _SHARE_OF_FREE * available_memory():
        raise InputError(
            f"the F32 twin takes {n_bytes / 1e9:.1f} GB of memory; "
            "write it with tools/reference/make_f32_twin.py and give its file with -m"
        )
    expanded = {name: _expanded(tensor) for name, tensor in tensors.items()}
    digest = hashlib.sha256()
    for name in sorted(expanded):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(expanded[name].data).data)
    found = digest.hexdigest()
    if found != twin.weights_sha256:
        raise ReferenceDumpError(
            f"{reference.directory} was run with weights of sha256 {twin.weights_sha256[:16]}…, "
            f"but ours expand to {found[:16]}…"
        )
    return expanded, f"expanded to F32 in memory; sha256 {found[:16]}… over all weights as in the twin"


def _expanded(tensor: Tensor) -> Tensor:
    values = np.ascontiguousarray(dequantize(tensor).astype("<f4", copy=False))
    return Tensor(tensor.name, F32, tensor.shape, values.reshape(-1).view(np.uint8))
