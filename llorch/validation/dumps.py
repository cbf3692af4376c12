"""Reference dumps: what `tools/reference/extract_checkpoints.py` wrote, checked before a single value is believed.

A dump is a folder: `manifest.json`, `prefill.npz` and, when decode steps were run, `decode.npz`. Arrays are
float32, keyed ``prefill/<stage>`` and ``decode/<step>/<stage>``. Files are held to their hashes when the
folder is opened, arrays to their shapes when they are read.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from llorch.errors import ReferenceDumpError
from llorch.validation.manifests import Fields
from llorch.validation.tolerances import Profile, stage_names

SCHEMA = "llorch-reference/1"
MANIFEST = "manifest.json"
FILES = ("prefill.npz", "decode.npz")
DECODE_KV_STAGES = ("Kcur_rope", "Vcur", "result_output")
_MANIFEST_BYTES_AT_MOST = 64 << 20
_SIZE_LIMIT = 1 << 31
_LAYERS_AT_MOST = 4096
_NPY_HEADER_BYTES_AT_MOST = 4096


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the reference's model, in GGUF words."""

    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int
    n_vocab: int

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


def stage_key(stage: str, layer: int) -> str:
    """``"attn_norm-0"``, or the plain name outside the layers (layer -1)."""
    return stage if layer < 0 else f"{stage}-{layer}"


class Reference:
    """One opened dump.

    Attributes:
        directory: where it lies.
        profile: ``"native"`` or ``"f32"``.
        model_file: name of the source model's file.
        model_sha256: hash of that file.
        twin_sha256: hash of the F32 twin that was run instead; None when the model itself was.
        twin_weights_sha256: hash over the twin's weights alone; None likewise.
        sizes: sizes of the model.
        prompt: the prompt's text.
        prompt_token_ids: the prompt as ids, BOS included.
        greedy_token_ids: one id from the prompt pass and one from each decode step.
        greedy_margins: best minus second-best logit, for each of them.
        layers: layers kept in full; `l_out` is there for all.
        n_decode: number of decode steps.
        has_all_decode_stages: whether decode steps hold every stage, or rotated K, V and logits only.
        identity: which llama.cpp: version, commit, features, hashes of its libraries.
        settings: what was asked of it: KV type, flash attention, threads.
        nodes: for each stage key its graph node, op and source weight.
        command: the command line that made the dump.
    """

    def __init__(self, directory: Path, manifest: Mapping[str, Any]) -> None:
        self.directory = directory
        top = Fields(manifest, str(directory / MANIFEST))
        if (schema := top.text("schema")) != SCHEMA:
            raise ReferenceDumpError(f"{directory / MANIFEST}: schema is {schema!r}, expected {SCHEMA!r}")
        profile = top.text("profile")
        if profile not in get_args(Profile):
            raise ReferenceDumpError(
                f"{directory / MANIFEST}: profile is {profile!r}, expected native or f32"
            )
        self.profile: Profile = "native" if profile == "native" else "f32"
        model = top.section("model")
        self.model_file = model.text("file")
        self.model_sha256 = model.sha256("sha256")
        sizes = model.section("sizes")
        self.sizes = Sizes(
            **{name: sizes.count(name, at_least=1, below=_SIZE_LIMIT) for name in Sizes.__slots__}
        )
        twin = top.section("twin") if manifest.get("twin") is not None else None
        self.twin_sha256 = twin.sha256("sha256") if twin else None
        self.twin_weights_sha256 = twin.sha256("weights_sha256") if twin else None
        prompt = top.section("prompt")
        self.prompt = prompt.text("text")
        self.prompt_token_ids = prompt.counts("token_ids", below=self.sizes.n_vocab)
        greedy = top.section("greedy")
        self.greedy_token_ids = greedy.counts("token_ids", below=self.sizes.n_vocab)
        self.greedy_margins = greedy.numbers("margins")
        self.layers = top.counts("layers", below=self.sizes.n_layer)
        self.n_decode = top.count("n_decode")
        self.has_all_decode_stages = top.text("decode_stages") == "all"
        self.identity = dict(top.section("reference").values)
        self.settings = dict(top.section("settings").values)
        self.nodes = dict(top.section("tensors").values)
        self.command = top.text("command")
        self._files = top.section("files")
        self._check_consistent(top)

    @classmethod
    def load(cls, directory: Path) -> Reference:
        """Open a dump and hold its files to the manifest.

        Raises:
            ReferenceDumpError: something is missing, altered, malformed or contradicts itself.
        """
        path = directory / MANIFEST
        try:
            if path.stat().st_size > _MANIFEST_BYTES_AT_MOST:
                raise ReferenceDumpError(f"{path} is larger than {_MANIFEST_BYTES_AT_MOST >> 20} MiB")
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ReferenceDumpError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise ReferenceDumpError(f"{path} is no JSON: {error}") from None
        if not isinstance(manifest, dict):
            raise ReferenceDumpError(f"{path} holds {type(manifest).__name__}, expected an object")
        reference = cls(directory, manifest)
        reference._check_files()
        return reference

    def passes(self) -> Iterator[Pass]:
        """The prompt pass, then the decode steps."""
        yield Pass("prefill", self.prompt_token_ids, 0)
        for step in range(self.n_decode):
            yield Pass(f"decode/{step}", (self.greedy_token_ids[step],), len(self.prompt_token_ids) + step)

    def stages(self, run: Pass) -> Iterator[tuple[str, int]]:
        """Stages that were kept of a pass as (name, layer), in the order of the computation."""
        chosen = frozenset(self.layers)
        everything = run.name == "prefill" or self.has_all_decode_stages
        for stage, layer in stage_names(self.sizes.n_layer):
            kept = layer < 0 or layer in chosen or stage == "l_out"
            if kept and (everything or stage in DECODE_KV_STAGES):
                yield stage, layer

    def array(self, run: Pass, stage: str, layer: int = -1) -> NDArray[np.float32]:
        """One intermediate of one pass, read-only, in the shape that `Sizes.shape` gives.

        Raises:
            ReferenceDumpError: it is absent, of another type or shape, or holds NaN or infinity.
        """
        key = f"{run.name}/{stage_key(stage, layer)}"
        expected = self.sizes.shape(stage, len(run.token_ids), run.n_kv)
        name = FILES[0] if run.name == "prefill" else FILES[1]
        where = f"{self.directory / name}: {key}"
        archive = self._archive(name)
        try:
            n_bytes = archive.getinfo(f"{key}.npy").file_size
            if not 0 <= n_bytes - 4 * math.prod(expected) <= _NPY_HEADER_BYTES_AT_MOST:
                raise ReferenceDumpError(f"{where} takes {n_bytes} bytes, expected shape {expected}")
            with archive.open(f"{key}.npy") as member:
                values = np.lib.format.read_array(member, allow_pickle=False)
        except KeyError:
            raise ReferenceDumpError(f"{where} is missing") from None
        except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
            raise ReferenceDumpError(f"{where} cannot be read: {error}") from None
        if values.dtype != np.float32 or values.shape != expected:
            found = f"{values.dtype} {values.shape}"
            raise ReferenceDumpError(f"{where} is {found}, expected float32 {expected}")
        if not np.isfinite(values).all():
            raise ReferenceDumpError(f"{where} holds NaN or infinity")
        values.flags.writeable = False
        return values

    def require_model(self, sha256: str) -> None:
        """Refuse a model file that this reference was not made from.

        Args:
            sha256: hash of the file that llorch runs: the source model or its F32 twin.
        """
        if sha256 not in (self.model_sha256, self.twin_sha256):
            raise ReferenceDumpError(
                f"{self.directory} was made from {self.model_file} with sha256 {self.model_sha256[:16]}…, "
                f"but this model has {sha256[:16]}…"
            )

    def require_prompt(self, token_ids: tuple[int, ...]) -> None:
        """Refuse when our tokenizer gives other ids than the reference was run with."""
        if token_ids != self.prompt_token_ids:
            raise ReferenceDumpError(
                f"{self.directory} was run with prompt ids {list(self.prompt_token_ids)}, "
                f"but its text gives {list(token_ids)} here"
            )

    @cached_property
    def _archives(self) -> dict[str, zipfile.ZipFile]:
        return {}

    def _archive(self, name: str) -> zipfile.ZipFile:
        if name not in self._archives:
            try:
                self._archives[name] = zipfile.ZipFile(self.directory / name)
            except (OSError, zipfile.BadZipFile) as error:
                raise ReferenceDumpError(f"{self.directory / name} cannot be opened: {error}") from None
        return self._archives[name]

    def _check_consistent(self, top: Fields) -> None:
        """Counts that must agree with each other."""
        where = top.where
        if self.sizes.n_layer > _LAYERS_AT_MOST:
            raise ReferenceDumpError(f"{where}: n_layer is {self.sizes.n_layer}, at most {_LAYERS_AT_MOST}")
        if not self.prompt_token_ids:
            raise ReferenceDumpError(f"{where}: the prompt has no token")
        for name, values in (("token_ids", self.greedy_token_ids), ("margins", self.greedy_margins)):
            if len(values) != self.n_decode + 1:
                expected = f"n_decode + 1 = {self.n_decode + 1}"
                raise ReferenceDumpError(
                    f"{where}: greedy.{name} has {len(values)} entries, expected {expected}"
                )
        if sorted(set(self.layers)) != list(self.layers) or not self.layers:
            raise ReferenceDumpError(f"{where}: layers is {list(self.layers)}, expected ascending numbers")
        if top.text("decode_stages") not in ("all", "kv"):
            raise ReferenceDumpError(
                f"{where}: decode_stages is {top.text('decode_stages')!r}, expected all or kv"
            )

    def _check_files(self) -> None:
        """Hashes of the files, and that their members are the stages this dump must hold."""
        expected: dict[str, set[str]] = {FILES[0]: set(), FILES[1]: set()}
        for run in self.passes():
            members = {f"{run.name}/{stage_key(stage, layer)}.npy" for stage, layer in self.stages(run)}
            expected[FILES[0] if run.name == "prefill" else FILES[1]] |= members
        for name, members in expected.items():
            if not members:
                continue
            path = self.directory / name
            recorded = self._files.section(name).sha256("sha256")
            try:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise ReferenceDumpError(f"{path} cannot be read: {error.strerror}") from None
            if found != recorded:
                raise ReferenceDumpError(
                    f"{path} was altered: sha256 {found[:16]}…, recorded {recorded[:16]}…"
                )
            if missing := sorted(members - set(self._archive(name).namelist())):
                shown = ", ".join(member.removesuffix(".npy") for member in missing[:5])
                raise ReferenceDumpError(f"{path} lacks {len(missing)} arrays: {shown}")
