"""The `loading` bundle: what was read from a model file, how it would be run, and what is refused."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llorch.conversation import Conversation
from llorch.engine.kv_plan import plan_kv_cache
from llorch.environment import environment
from llorch.errors import GGUFError, InputError
from llorch.formats.gguf.file import GGUFFile
from llorch.formats.printed import printable
from llorch.formats.source import open_source
from llorch.model.kv_cache import KVCache
from llorch.open_model import OpenModel, open_model
from llorch.progress import Progress, ignore_progress
from llorch.quant.tensor import first_bad_scale
from llorch.text.tokenizer import load_tokenizer
from llorch.validation.bundle_writer import BundleWriter, markdown_table
from llorch.validation.records import Record, sha256_of_file

LOADING_FILE, TENSORS_FILE = "loading.json", "tensors.ndjson"
ALL_FINITE = "all weights are finite"
_N_ITEMS = 4
"""Items of a metadata array that are repeated; the rest is counted and hashed."""


class TensorRow(Record):
    """One tensor: `offset` in its `part` of the file, and the first block whose scale is not finite."""

    name: str
    type: str
    shape: tuple[int, ...]
    part: int
    offset: int
    bytes: int
    sha256: str
    first_bad_block: int | None


class LoadingCheck(Record):
    """One verdict on the file, and what was found."""

    name: str
    passed: bool
    detail: str


@dataclass(slots=True)
class _Log:
    """Checks as they come in, and the seconds of each step, which begins where the one before ended."""

    checks: list[LoadingCheck] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    _begun_s: float = field(default_factory=time.perf_counter)

    def check(self, name: str, passed: bool, detail: str) -> None:
        self.checks.append(LoadingCheck(name=name, passed=passed, detail=detail))

    def end(self, step: str) -> None:
        begun_s, self._begun_s = self._begun_s, time.perf_counter()
        self.timings[step] = round(self._begun_s - begun_s, 6)


def write_loading_bundle(
    writer: BundleWriter,
    path: Path,
    command: str,
    *,
    n_threads: int = 0,
    residence: str = "auto",
    kv_type: str = "f16",
    override_pre: str | None = None,
    progress: Progress = ignore_progress,
) -> tuple[Path, bool]:
    """Load a model, record each step, and try damaged copies of its header.

    Args:
        writer: a new bundle of kind ``"loading"``.
        path: a GGUF file.
        command: the command line that reproduces it.
        n_threads: compute threads, 0 for the CPU's default.
        residence: where weights shall live.
        kv_type: number type of the KV cache in the memory plan.
        override_pre: name of the pre-tokenizer, in place of the one the file names.
        progress: called with (what, done, total).

    Returns:
        The bundle's folder, and whether every check passed.

    Raises:
        InputError: the model cannot be loaded at all, or is no GGUF file.
    """
    log = _Log()
    source = open_source(path)
    if not isinstance(source, GGUFFile):
        source.close()
        raise InputError(
            f"{printable(path)}: a loading bundle is about the header of a GGUF file; `llorch validate` proves what "
            "other models compute"
        )
    path = source.path
    log.end("open_and_check_header_s")
    with closing(source):
        file = {"file": path.name, "sha256": sha256_of_file(path), "bytes": source.n_bytes}
        tensors = _tensors(source, progress)
        log.end("hash_s")
        bad = [row.name for row in tensors if row.first_bad_block is not None]
        log.check(ALL_FINITE, not bad, f"not finite: {bad[:5]}" if bad else "no NaN, no infinity")
        with _open(source, log, n_threads, residence, progress) as model:
            _first_step(model, log, override_pre)
            _try_damaged_headers(source, log)
            document = {
                "passed": all(check.passed for check in log.checks),
                "model": {**file, "version": source.version, "alignment": source.alignment},
                "metadata": {key: _json_value(value) for key, value in source.metadata.items()},
                "config": asdict(model.config),
                "memory": _memory(model, source, kv_type),
                "timings": log.timings,
                "checks": [check.model_dump() for check in log.checks],
            }
    writer.add_json(LOADING_FILE, document)
    writer.add_ndjson(TENSORS_FILE, (row.model_dump(mode="json") for row in tensors))
    writer.add_summary(lambda run_id: _summary(document, tensors, command, run_id))
    passed = bool(document["passed"])
    return writer.write({"model": file}, passed, command), passed


def _tensors(source: GGUFFile, progress: Progress) -> list[TensorRow]:
    rows = []
    for number, (name, tensor) in enumerate(source.tensors.items()):
        progress("hashing tensors", number, len(source.tensors))
        info = source.tensor_infos[name]
        digest = hashlib.sha256()
        tensor.hash_into(digest)
        row = TensorRow(
            name=name,
            type=tensor.type.name,
            shape=tensor.shape,
            part=info.part,
            offset=info.offset,
            bytes=tensor.n_bytes,
            sha256=digest.hexdigest(),
            first_bad_block=first_bad_scale(tensor),
        )
        rows.append(row)
    return rows


def _open(source: GGUFFile, log: _Log, n_threads: int, residence: str, progress: Progress) -> OpenModel:
    """Open the model; progress reports of the compiler divide its time into steps."""

    def watch(what: str, done: int, total: int) -> None:
        is_kernels = what in ("kernels", "compiling")
        if is_kernels and "check_config_and_weights_s" not in log.timings:
            log.end("check_config_and_weights_s")
        if is_kernels and done == total:
            log.end("load_kernels_s")
        progress(what, done, total)

    model = open_model(
        source,
        with_tokenizer=False,
        n_threads=n_threads,
        n_batch=8,
        weights=residence,
        kv_type="f32",
        progress=watch,
    )
    log.end("place_weights_s")
    log.check("config and tensors fit", True, f"{len(source.tensors)} tensors, all that are implied")
    return model


def _first_step(model: OpenModel, log: _Log, override_pre: str | None) -> None:
    """What `llorch generate` does up to the logits of its first token."""
    vocab = load_tokenizer(model.source.metadata, override_pre=override_pre).vocab
    n = model.config.n_vocab
    log.end("load_tokenizer_s")
    log.check("vocabulary fits", vocab.n_vocab == n, f"{vocab.n_vocab} tokens, logits for {n}")
    token_id = vocab.bos_id or 0
    logits = Conversation(model.llama, 1).feed((token_id,), 0)
    log.end("first_step_s")
    finite = bool(np.isfinite(logits).all())
    log.check("the first step gives finite logits", finite, f"{logits.size} logits of token {token_id}")


def _memory(model: OpenModel, source: GGUFFile, kv_type: str) -> dict[str, Any]:
    n_ctx, n_blocks = plan_kv_cache(model.config, ctx_size=0, n_parallel=1, kv_type=kv_type)
    return {
        "file_bytes": source.n_bytes,
        "weights_residence": model.llama.residence.kind,
        "weights_reason": model.llama.residence_reason,
        "weights_bytes": model.llama.residence.n_bytes,
        "kv_type": kv_type,
        "n_ctx": n_ctx,
        "kv_bytes": n_blocks * KVCache.bytes_per_block(model.config, kv_type),
    }


def _damages(head: bytes) -> Mapping[str, bytes]:
    """Headers that must be refused."""
    huge = (1 << 60).to_bytes(8, "little")
    return {
        "wrong magic": b"GGML" + head[4:],
        "version 99": head[:4] + (99).to_bytes(4, "little") + head[8:],
        "2^60 tensors": head[:8] + huge + head[16:],
        "2^60 metadata entries": head[:16] + huge + head[24:],
        "a key 2^60 bytes long": head[:24] + huge + head[32:],
        "cut in the header": head[: len(head) // 2],
        "cut before the weights": head,
        "nothing but zeros": bytes(len(head)),
        "empty": b"",
    }


def _try_damaged_headers(source: GGUFFile, log: _Log) -> None:
    data_start = min(info.offset for info in source.tensor_infos.values() if info.part == 0)
    with source.part_paths[0].open("rb") as file:
        head = file.read(data_start)
    with tempfile.TemporaryDirectory(prefix="llorch-damaged-") as folder:
        path = Path(folder) / "damaged.gguf"
        for name, content in _damages(head).items():
            path.write_bytes(content)
            try:
                GGUFFile(path).close()
            except GGUFError as error:
                log.check(f"refused: {name}", True, str(error).replace(str(path), path.name))
            else:
                log.check(f"refused: {name}", False, "it was opened")


def _json_value(value: object) -> object:
    """A metadata value as JSON; an array by its length, hash and first items."""
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value).tobytes()
        first: list[object] = value[:_N_ITEMS].tolist()
    elif isinstance(value, list):
        content = b"".join(len(item).to_bytes(8, "little") + item for item in value)
        first = [item.decode("utf-8", "backslashreplace") for item in value[:_N_ITEMS]]
    else:
        return str(value) if isinstance(value, float) and not np.isfinite(value) else value
    return {"n_items": len(value), "sha256": hashlib.sha256(content).hexdigest(), "first": first}


def _summary(document: Mapping[str, Any], tensors: list[TensorRow], command: str, run_id: str) -> str:
    model, memory, here = document["model"], document["memory"], environment()
    types: dict[str, list[int]] = {}
    for row in tensors:
        types.setdefault(row.type, []).append(row.bytes)
    of_types = ", ".join(f"{len(n)} {name} ({sum(n):,} bytes)" for name, n in sorted(types.items()))
    checks = [(c["name"], "pass" if c["passed"] else "**FAIL**", c["detail"]) for c in document["checks"]]
    timings = [
        (name.removesuffix("_s").replace("_", " "), f"{1000 * seconds:.2f} ms")
        for name, seconds in document["timings"].items()
    ]
    return f"""\
# Loading {model["file"]}: {"passed" if document["passed"] else "FAILED"}

What llorch read from the file, checked, and would take to run it (run {run_id}).

- **file**: GGUF v{model["version"]}, {model["bytes"]:,} bytes, sha256 `{model["sha256"]}`
- **sizes**: {", ".join(f"{key} {value:g}" for key, value in document["config"].items())}
- **tensors**: {of_types}
- **metadata**: {len(document["metadata"])} keys
- **weights**: {memory["weights_residence"]}, {memory["weights_bytes"]:,} bytes of memory \
({memory["weights_reason"]})
- **KV cache**: at most {memory["kv_bytes"]:,} bytes for {memory["n_ctx"]} tokens, {memory["kv_type"]}
- **kernels**: {here["kernels"]["path"]} on {here["kernels"]["cpu"]}
- **llorch**: {here["llorch"]}, commit `{here["commit"]}`, Python {here["python"]}, \
NumPy {here["numpy"]}, Numba {here["numba"]}

## Checks

{markdown_table(["check", "verdict", "what was found"], checks)}

## Time, on this machine, once

{markdown_table(["step", "time"], timings)}

## Check it yourself

    {command}

    llorch validate --verify proof_bundle/loading/{run_id}

Files: `loading.json` (metadata, sizes, memory, timings, checks), `tensors.ndjson` (place, size and \
hash of every tensor), `bundle.json` (environment and hashes), `attestation.json` (in-toto), `SHA256SUMS`.
"""
