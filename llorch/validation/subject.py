"""The model under test: our engine with the weights that a reference was computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llorch import kernels
from llorch.errors import InputError, ModelError, ReferenceDumpError
from llorch.formats.source import ModelSource, open_source
from llorch.machine.memory import available_memory
from llorch.model.batch import Batch
from llorch.model.config import ModelConfig
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama
from llorch.model.weights import Weights
from llorch.observe.probe import Probe
from llorch.quant.codecs import dequantize
from llorch.quant.tensor import Tensor
from llorch.quant.types import F32
from llorch.text.tokenizer import load_tokenizer
from llorch.validation.bundle import sha256_of_file
from llorch.validation.dumps import Pass, Reference

KV_TYPE = "f32"
"""As in the reference: a float16 cache would round keys and values in a stage of its own."""

_SHARE_OF_FREE = 0.9
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model ready to be held against a reference.

    Attributes:
        path: its file.
        sha256: hash of that file.
        weights_note: how its weights became the reference's.
        prompt_note: how the prompt's ids were checked.
        config: sizes.
        llama: the engine.
        source: the open file.
    """

    path: Path
    sha256: str
    weights_note: str
    prompt_note: str
    config: ModelConfig
    llama: Llama
    source: ModelSource

    def close(self) -> None:
        """Stop the compute threads and let go of the file."""
        self.llama.close()
        self.source.close()


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
        config = ModelConfig.from_metadata(source.metadata)
        _require_sizes(config, reference)
        tensors, note = reference_tensors(source.tensors, sha256, reference)
        if tensors is not source.tensors:
            residence = "mapped"  # they were just made in memory; packing would copy them once more
        prompt_note = _check_prompt(source, reference)
        kernels.compile_all(progress)
        llama = Llama(
            config,
            Weights.from_tensors(config, tensors),
            n_threads=n_threads,
            n_batch=len(reference.prompt_token_ids),
            residence=residence,
            progress=progress,
        )
        undo.pop_all()
    return Subject(path, sha256, note, prompt_note, config, llama, source)


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


class Conversation:
    """One sequence in a cache of its own, fed pass by pass.

    Attributes:
        cache: the cache; its blocks belong to the sequence in order, so block b holds positions from
            ``b * KV_BLOCK_SIZE`` on.
    """

    def __init__(self, llama: Llama, n_positions: int) -> None:
        self._llama = llama
        self.cache = KVCache(llama.config, KVCache.blocks_for(n_positions), KV_TYPE)
        self._table = np.array([self.cache.allocate(self.cache.n_blocks)], np.int32)

    def feed(
        self,
        token_ids: tuple[int, ...],
        position: int,
        *,
        all_rows: bool = False,
        probe: Probe | None = None,
    ) -> NDArray[np.float32]:
        """Run one pass; returns a copy of the logits, float32 (n_tokens or 1, n_vocab)."""
        n = len(token_ids)
        rows = range(n) if all_rows else [n - 1]
        batch = Batch(
            token_ids=np.array(token_ids, np.int32),
            positions=np.arange(position, position + n, dtype=np.int32),
            slots=np.zeros(n, np.int32),
            block_tables=self._table,
            output_rows=np.array(rows, np.int32),
        )
        return self._llama.forward(batch, self.cache, probe).copy()

    def keys(self, layer: int, n: int) -> NDArray[np.float32]:
        """The first `n` keys of a layer: float32 (n, n_head_kv, head_dim), a copy."""
        blocks = self.cache.keys[layer, self._table[0]]  # (block, head, dim, position in block)
        rows = blocks.transpose(0, 3, 1, 2).reshape(-1, *blocks.shape[1:3])
        return np.ascontiguousarray(rows[:n], np.float32)

    def values(self, layer: int, n: int) -> NDArray[np.float32]:
        """The first `n` values of a layer: float32 (n, n_head_kv, head_dim), a copy."""
        blocks = self.cache.values[layer, self._table[0]]  # (block, head, position in block, dim)
        rows = blocks.transpose(0, 2, 1, 3).reshape(-1, blocks.shape[1], blocks.shape[3])
        return np.ascontiguousarray(rows[:n, :, : self._llama.config.head_dim], np.float32)

    def run(self, run: Pass, probe: Probe | None = None) -> NDArray[np.float32]:
        """Run one of the reference's passes, logits of all rows."""
        return self.feed(run.token_ids, run.position, all_rows=True, probe=probe)
