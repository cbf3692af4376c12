"""Reference dumps: what `tools/reference/extract_checkpoints.py` wrote, checked before a single value is believed.

A dump is a folder: `manifest.json`, `prefill.npz` and, when decode steps were run, `decode.npz`. Arrays are
float32, keyed ``prefill/<stage>`` and ``decode/<step>/<stage>``. Files are held to their hashes when the
folder is opened, arrays to their shapes when they are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from llorch.errors import ReferenceDumpError
from llorch.validation.records import ArrayFile, Count, HashedFile, Record, Sha256, read_record
from llorch.validation.tolerances import Profile, stage_names

MANIFEST = "manifest.json"
DECODE_KV_STAGES = ("Kcur_rope", "Vcur", "result_output")
_MANIFEST_BYTES_AT_MOST = 64 << 20

Size = Annotated[int, Field(ge=1, lt=1 << 31)]
Ids = tuple[Count, ...]


class Sizes(Record, extra="forbid"):
    """Sizes of the reference's model, in GGUF words."""

    n_layer: Annotated[int, Field(ge=1, le=4096)]
    n_embd: Size
    n_head: Size
    n_head_kv: Size
    head_dim: Size
    n_ff: Size
    n_vocab: Size

    def shape(self, stage: str, n_tokens: int, n_kv: int) -> tuple[int, ...]:
        """Shape of a stage in a pass of `n_tokens`, after which the cache holds `n_kv` tokens."""
        if stage in ("kq", "kq_soft_max"):
            return self.n_head, n_tokens, n_kv
        if stage in ("Qcur", "Qcur_rope"):
            return n_tokens, self.n_head, self.head_dim
        if stage in ("Kcur", "Kcur_rope", "Vcur"):
            return n_tokens, self.n_head_kv, self.head_dim
        if stage in ("ffn_gate", "ffn_up", "ffn_swiglu"):
            return n_tokens, self.n_ff
        if stage == "kqv_out":
            return n_tokens, self.n_head * self.head_dim
        return n_tokens, self.n_vocab if stage == "result_output" else self.n_embd


class SourceModel(HashedFile):
    """The model that the reference is about."""

    file: str
    name: str | None = None
    sizes: Sizes
    tensor_types: dict[str, int] | None = None


class Twin(HashedFile):
    """The F32 twin that was run in its place; `weights_sha256` is taken over its weights alone."""

    weights_sha256: Sha256
    gguf_package: str = ""


class Prompt(Record, extra="forbid"):
    """What was fed; `token_ids` include BOS."""

    text: str
    token_ids: Ids


class Greedy(Record, extra="forbid"):
    """One id from the prompt pass and from each decode step; `margins`: best minus second-best logit."""

    token_ids: Ids
    margins: tuple[FiniteFloat, ...]
    end_of_sequence_at: Ids = ()


class Manifest(Record, extra="forbid"):
    """`manifest.json`.

    Attributes:
        twin: None when the model's own file was run.
        reference: which llama.cpp: version, commit, features, hashes of its libraries.
        settings: what was asked of it: KV type, flash attention, threads.
        layers: layers kept in full; `l_out` is there for all.
        decode_stages: ``"kv"`` when decode steps hold rotated K, V and logits only.
        tensors: for each stage key its graph node, op and source weight.
        arrays: file and shape of each array.
    """

    schema_: Literal["llorch-reference/1"] = Field(alias="schema")
    generated_by: str = ""
    command: str
    profile: Profile
    model: SourceModel
    twin: Twin | None = None
    reference: dict[str, Any]
    settings: dict[str, Any]
    prompt: Prompt
    greedy: Greedy
    layers: Ids
    n_decode: Count
    decode_stages: Literal["all", "kv"]
    tensors: dict[str, Any]
    arrays: dict[str, Any] | None = None
    files: dict[str, HashedFile]

    def fault(self) -> str | None:
        """What contradicts itself, None when nothing does."""
        sizes, greedy = self.model.sizes, self.greedy
        for name, numbers, limit in (
            ("prompt: token_ids", self.prompt.token_ids, sizes.n_vocab),
            ("greedy: token_ids", greedy.token_ids, sizes.n_vocab),
            ("layers", self.layers, sizes.n_layer),
        ):
            if too_large := [number for number in numbers if number >= limit]:
                return f"{name} is {too_large[0]}, expected a whole number below {limit}"
        if not self.prompt.token_ids:
            return "the prompt has no token"
        for name, n in (("token_ids", len(greedy.token_ids)), ("margins", len(greedy.margins))):
            if n != self.n_decode + 1:
                return f"greedy.{name} has {n} entries, expected n_decode + 1 = {self.n_decode + 1}"
        if sorted(set(self.layers)) != list(self.layers) or not self.layers:
            return f"layers is {list(self.layers)}, expected ascending numbers"
        return None


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the graph.

    Attributes:
        name: ``"prefill"`` or ``"decode/<step>"``, the head of its array keys.
        token_ids: what was fed.
        position: position of the first of them.
    """

    name: str
    token_ids: tuple[int, ...]
    position: int

    @property
    def n_kv(self) -> int:
        """Tokens in the cache after this pass."""
        return self.position + len(self.token_ids)

    @property
    def file(self) -> str:
        """Name of the npz file that holds its arrays."""
        return f"{self.name.split('/')[0]}.npz"


def stage_key(stage: str, layer: int) -> str:
    """``"attn_norm-0"``, or the plain name outside the layers (layer -1)."""
    return stage if layer < 0 else f"{stage}-{layer}"


def dumped_stages(n_layer: int, layers: Collection[int]) -> Iterator[tuple[str, int]]:
    """Stages (name, layer) that a dump of these `layers` holds of the prompt pass, in order of the computation."""
    for stage, layer in stage_names(n_layer):
        if layer < 0 or layer in layers or stage == "l_out":
            yield stage, layer


class Reference:
    """One opened dump.

    Attributes:
        directory: where it lies.
        manifest: what it says about itself.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self._archives: dict[str, ArrayFile] = {}

    @classmethod
    def load(cls, directory: Path) -> Reference:
        """Open a dump and hold its files to the manifest.

        Raises:
            ReferenceDumpError: something is missing, altered, malformed or contradicts itself.
        """
        path = directory / MANIFEST
        reference = cls(directory, read_record(Manifest, path, _MANIFEST_BYTES_AT_MOST))
        if fault := reference.manifest.fault():
            raise ReferenceDumpError(f"{path}: {fault}")
        reference._check_files()
        return reference

    @property
    def profile(self) -> Profile:
        """``"native"`` or ``"f32"``."""
        return self.manifest.profile

    @property
    def sizes(self) -> Sizes:
        """Sizes of the model."""
        return self.manifest.model.sizes

    def passes(self) -> Iterator[Pass]:
        """The prompt pass, then the decode steps."""
        prompt = self.manifest.prompt.token_ids
        yield Pass("prefill", prompt, 0)
        for step, token_id in enumerate(self.manifest.greedy.token_ids[:-1]):
            yield Pass(f"decode/{step}", (token_id,), len(prompt) + step)

    def stages(self, run: Pass) -> Iterator[tuple[str, int]]:
        """Stages that were kept of a pass as (name, layer), in the order of the computation."""
        everything = run.name == "prefill" or self.manifest.decode_stages == "all"
        for stage, layer in dumped_stages(self.sizes.n_layer, frozenset(self.manifest.layers)):
            if everything or stage in DECODE_KV_STAGES:
                yield stage, layer

    def array(self, run: Pass, stage: str, layer: int = -1) -> NDArray[np.float32]:
        """One intermediate of one pass, read-only, in the shape that `Sizes.shape` gives.

        Raises:
            ReferenceDumpError: it is absent, of another type or shape, or holds NaN or infinity.
        """
        key = f"{run.name}/{stage_key(stage, layer)}"
        expected = self.sizes.shape(stage, len(run.token_ids), run.n_kv)
        path = self.directory / run.file
        values = self._archive(run.file).read(key, expected)
        if values.dtype != np.float32 or values.shape != expected:
            found = f"{values.dtype} {values.shape}"
            raise ReferenceDumpError(f"{path}: {key} is {found}, expected float32 {expected}")
        if not np.isfinite(values).all():
            raise ReferenceDumpError(f"{path}: {key} holds NaN or infinity")
        values.flags.writeable = False
        return values

    def require_model(self, sha256: str) -> None:
        """Refuse a model file that this reference was not made from.

        Args:
            sha256: hash of the file that llorch runs: the source model or its F32 twin.
        """
        model, twin = self.manifest.model, self.manifest.twin
        if sha256 != model.sha256 and (twin is None or sha256 != twin.sha256):
            raise ReferenceDumpError(
                f"{self.directory} was made from {model.file} with sha256 {model.sha256[:16]}…, "
                f"but this model has {sha256[:16]}…"
            )

    def require_prompt(self, token_ids: tuple[int, ...]) -> None:
        """Refuse when our tokenizer gives other ids than the reference was run with."""
        theirs = self.manifest.prompt.token_ids
        if token_ids != theirs:
            raise ReferenceDumpError(
                f"{self.directory} was run with prompt ids {list(theirs)}, "
                f"but its text gives {list(token_ids)} here"
            )

    def _archive(self, name: str) -> ArrayFile:
        if name not in self._archives:
            self._archives[name] = ArrayFile(self.directory / name)
        return self._archives[name]

    def _check_files(self) -> None:
        """Hashes of the files, and that their members are the stages this dump must hold."""
        expected: dict[str, set[str]] = {}
        for run in self.passes():
            keys = {f"{run.name}/{stage_key(*stage)}" for stage in self.stages(run)}
            expected.setdefault(run.file, set()).update(keys)
        for name, keys in expected.items():
            path = self.directory / name
            if name not in self.manifest.files:
                raise ReferenceDumpError(f"{self.directory / MANIFEST}: files: {name} is missing")
            self.manifest.files[name].require(path, str(path))
            if missing := self._archive(name).missing(keys):
                raise ReferenceDumpError(f"{path} lacks {len(missing)} arrays: {', '.join(missing[:5])}")
