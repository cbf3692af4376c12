"""Reference dumps: what `tools/reference/extract_checkpoints*.py` wrote, checked before a single value is believed.

A dump is a folder: `manifest.json`, `prefill.npz` and, when decode steps were run, `decode.npz`. Arrays are
float32, keyed ``prefill/<stage>`` and ``decode/<step>/<stage>``. Files are held to their hashes when the
folder is opened, arrays to their shapes when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from llorch.errors import ReferenceDumpError
from llorch.formats.printed import printable
from llorch.validation.records import ArrayFile, Count, HashedFile, Record, Sha256, read_record
from llorch.validation.tolerances import Profile, stage_key, stage_names

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
        reference: which llama.cpp or transformers: version, commit, features, hashes of its libraries.
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

    def faults(self) -> Iterator[str]:
        """What contradicts itself."""
        sizes, greedy, n = self.model.sizes, self.greedy, self.n_decode + 1
        for name, numbers, limit in (
            ("prompt: token_ids", self.prompt.token_ids, sizes.n_vocab),
            ("greedy: token_ids", greedy.token_ids, sizes.n_vocab),
            ("layers", self.layers, sizes.n_layer),
        ):
            if too_large := [number for number in numbers if number >= limit]:
                yield f"{name} is {too_large[0]}, expected a whole number below {limit}"
        if not self.prompt.token_ids:
            yield "the prompt has no token"
        for name, found in (("token_ids", len(greedy.token_ids)), ("margins", len(greedy.margins))):
            if found != n:
                yield f"greedy.{name} has {found} entries, expected n_decode + 1 = {n}"
        if sorted(set(self.layers)) != list(self.layers) or not self.layers:
            yield f"layers is {list(self.layers)}, expected ascending numbers"


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the graph: `token_ids` were fed, the first of them at `position`.

    `name` is ``"prefill"`` or ``"decode/<step>"``, the head of its array keys.
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


@dataclass(frozen=True, slots=True)
class Reference:
    """One opened dump: where it lies, and what it says about itself."""

    directory: Path
    manifest: Manifest
    _archives: dict[str, ArrayFile] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path) -> Reference:
        """Open a dump and hold its files to the manifest.

        Raises:
            ReferenceDumpError: something is missing, altered, malformed or contradicts itself.
        """
        path = directory / MANIFEST
        reference = cls(directory, read_record(Manifest, path, _MANIFEST_BYTES_AT_MOST))
        for fault in reference.manifest.faults():
            raise ReferenceDumpError(f"{printable(path)}: {fault}")
        expected: dict[str, set[str]] = {}
        for run in reference.passes():
            keys = {f"{run.name}/{stage_key(*stage)}" for stage in reference.stages(run)}
            expected.setdefault(run.file, set()).update(keys)
        for name, keys in expected.items():
            if name not in reference.manifest.files:
                raise ReferenceDumpError(f"{printable(path)}: files: {name} is missing")
            reference.manifest.files[name].require(directory / name, str(directory / name))
            if missing := reference._archive(name).missing(keys):
                raise ReferenceDumpError(
                    f"{directory / name} lacks {len(missing)} arrays: {', '.join(missing[:5])}"
                )
        return reference

    @property
    def profile(self) -> Profile:
        """``"native"`` or ``"f32"``."""
        return self.manifest.profile

    @property
    def program(self) -> str:
        """What computed it, without its version: ``"llama.cpp"`` or ``"transformers"``."""
        return str(self.manifest.reference.get("program", "llama.cpp"))

    @property
    def made_by(self) -> str:
        """Program, version and commit."""
        known = self.manifest.reference
        return " ".join(str(known[key])[:12] for key in ("program", "version", "commit") if key in known)

    @property
    def has_all_decode_stages(self) -> bool:
        """Whether decode steps were dumped like the prompt pass."""
        return self.manifest.decode_stages == "all"

    def passes(self) -> Iterator[Pass]:
        """The prompt pass, then the decode steps."""
        prompt = self.manifest.prompt.token_ids
        yield Pass("prefill", prompt, 0)
        for step, token_id in enumerate(self.manifest.greedy.token_ids[:-1]):
            yield Pass(f"decode/{step}", (token_id,), len(prompt) + step)

    def stages(self, run: Pass) -> Iterator[tuple[str, int]]:
        """Stages that were kept of a pass as (name, layer), in the order of the computation."""
        for stage, layer in stage_names(self.manifest.model.sizes.n_layer, self.manifest.layers):
            if run.name == "prefill" or self.has_all_decode_stages or stage in DECODE_KV_STAGES:
                yield stage, layer

    def array(self, run: Pass, stage: str, layer: int = -1) -> NDArray[np.float32]:
        """One intermediate of one pass, read-only, in the shape that `Sizes.shape` gives.

        Raises:
            ReferenceDumpError: it is absent, of another type or shape, or holds NaN or infinity.
        """
        key = f"{run.name}/{stage_key(stage, layer)}"
        expected = self.manifest.model.sizes.shape(stage, len(run.token_ids), run.n_kv)
        values = self._archive(run.file).read(key, expected)
        where = f"{self.directory / run.file}: {key}"
        if values.dtype != np.float32 or values.shape != expected:
            found = f"{values.dtype} {values.shape}"
            raise ReferenceDumpError(f"{where} is {found}, expected float32 {expected}")
        if not np.isfinite(values).all():
            raise ReferenceDumpError(f"{where} holds NaN or infinity")
        values.flags.writeable = False
        return values

    def require_model(self, sha256: str) -> None:
        """Refuse a model file that is neither the source model nor its F32 twin, by its hash."""
        model, twin = self.manifest.model, self.manifest.twin
        if sha256 not in (model.sha256, twin and twin.sha256):
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
