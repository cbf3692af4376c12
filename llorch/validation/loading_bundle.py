"""The `loading` bundle: what was read from a model file, how it would be run, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from llorch import kernels
from llorch.conversation import Conversation
from llorch.engine.kv_plan import plan_kv_cache
from llorch.errors import GGUFError
from llorch.formats.gguf.file import GGUFFile
from llorch.model.config import ModelConfig
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama
from llorch.model.weights import Weights
from llorch.quant.tensor import first_bad_scale
from llorch.text.tokenizer import load_tokenizer
from llorch.validation.bundle import BundleWriter, environment, sha256_of_file

LOADING_FILE, TENSORS_FILE = "loading.json", "tensors.ndjson"
_N_SHOWN = 4
_TOLD = Callable[[str, int, int], None]


@dataclasses.dataclass(slots=True)
class _Record:
    """Checks and timings as they come in."""

    checks: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    timings: dict[str, float] = dataclasses.field(default_factory=dict)

    def check(self, name: str, passed: bool, detail: str) -> None:
        self.checks.append({"name": name, "passed": passed, "detail": detail})

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.timings[name] = round(time.perf_counter() - begun, 6)


def write_loading_bundle(
    writer: BundleWriter,
    path: Path,
    command: str,
    *,
    n_threads: int = 0,
    residence: str = "auto",
    kv_type: str = "f16",
    progress: _TOLD = lambda what, done, total: None,
) -> tuple[Path, bool]:
    """Load a model step by step, record each step, and try damaged copies of its header.

    Args:
        writer: a new bundle of kind ``"loading"``.
        path: a GGUF file.
        command: the command line that reproduces it.
        n_threads: compute threads, 0 for the CPU's default.
        residence: where weights shall live.
        kv_type: number type of the KV cache in the memory plan.
        progress: called with (what, done, total).

    Returns:
        The bundle's folder, and whether every check passed.

    Raises:
        InputError: the model cannot be loaded at all.
    """
    record = _Record()
    with record.timed("open_and_check_header_s"):
        source = GGUFFile(path)
    with closing(source):
        with record.timed("hash_s"):
            model = {"file": path.name, "sha256": sha256_of_file(path), "bytes": source.n_bytes}
            tensors = _tensors(source, progress)
        bad = [row["name"] for row in tensors if row["first_bad_block"] is not None]
        found = f"not finite: {bad[:5]}" if bad else "no NaN, no infinity"
        record.check("all weights are finite", not bad, found)
        config, memory = _load(source, record, n_threads, residence, kv_type, progress)
        _try_damaged_headers(source, record)
        document = {
            "passed": all(check["passed"] for check in record.checks),
            "model": {**model, "version": source.version, "alignment": source.alignment},
            "metadata": {key: _shown(value) for key, value in source.metadata.items()},
            "config": dataclasses.asdict(config),
            "memory": memory,
            "timings": record.timings,
            "checks": record.checks,
        }
    writer.add_json(LOADING_FILE, document)
    writer.add_ndjson(TENSORS_FILE, tensors)
    writer.add_summary(_summary(document, tensors, command, writer.run_id))
    passed = bool(document["passed"])
    return writer.write({"model": model}, passed, command), passed


def _load(
    source: GGUFFile, record: _Record, n_threads: int, residence: str, kv_type: str, progress: _TOLD
) -> tuple[ModelConfig, dict[str, Any]]:
    """Everything that `llorch generate` does before its first token, and that token's logits."""
    with record.timed("check_config_and_weights_s"):
        config = ModelConfig.from_metadata(source.metadata)
        weights = Weights.from_tensors(config, source.tensors)
    record.check("config and tensors fit", True, f"{len(source.tensors)} tensors, all that are implied")
    with record.timed("load_tokenizer_s"):
        vocab = load_tokenizer(source.metadata).vocab
    same = vocab.n_vocab == config.n_vocab
    record.check("vocabulary fits", same, f"{vocab.n_vocab} tokens, logits for {config.n_vocab}")
    with record.timed("load_kernels_s"):
        kernels.compile_all(progress)
    with record.timed("place_weights_s"):
        llama = Llama(config, weights, n_threads=n_threads, n_batch=8, residence=residence, progress=progress)
    with closing(llama):
        _first_step(llama, vocab.bos_id or 0, record)
        return config, _memory(llama, source, kv_type)


def _tensors(source: GGUFFile, progress: _TOLD) -> list[dict[str, Any]]:
    rows = []
    for number, (name, tensor) in enumerate(source.tensors.items()):
        progress("hashing tensors", number, len(source.tensors))
        info = source.tensor_infos[name]
        rows.append(
            {
                "name": name,
                "type": tensor.type.name,
                "shape": list(tensor.shape),
                "part": info.part,
                "offset": info.offset,
                "bytes": tensor.n_bytes,
                "sha256": hashlib.sha256(tensor.data.data).hexdigest(),
                "first_bad_block": first_bad_scale(tensor),
            }
        )
    return rows


def _memory(llama: Llama, source: GGUFFile, kv_type: str) -> dict[str, Any]:
    n_ctx, n_blocks = plan_kv_cache(llama.config, ctx_size=0, n_parallel=1, kv_type=kv_type)
    return {
        "file_bytes": source.n_bytes,
        "weights_residence": llama.residence.kind,
        "weights_reason": llama.residence_reason,
        "weights_bytes": llama.residence.n_bytes,
        "kv_type": kv_type,
        "n_ctx": n_ctx,
        "kv_bytes": n_blocks * KVCache.bytes_per_block(llama.config, kv_type),
    }


def _first_step(llama: Llama, token_id: int, record: _Record) -> None:
    with record.timed("first_step_s"):
        logits = Conversation(llama, 1).feed((token_id,), 0)
    finite = bool(np.isfinite(logits).all())
    record.check("the first step gives finite logits", finite, f"{logits.size} logits of token {token_id}")


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


def _try_damaged_headers(source: GGUFFile, record: _Record) -> None:
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
                record.check(f"refused: {name}", True, str(error).replace(str(path), path.name))
            else:
                record.check(f"refused: {name}", False, "it was opened")


def _shown(value: object) -> object:
    """A metadata value as JSON; an array by its length, hash and first items."""
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value).tobytes()
        first: list[object] = value[:_N_SHOWN].tolist()
        return {"n_items": len(value), "sha256": hashlib.sha256(content).hexdigest(), "first": first}
    if isinstance(value, list):
        content = b"".join(len(item).to_bytes(8, "little") + item for item in value)
        first = [item.decode("utf-8", "backslashreplace") for item in value[:_N_SHOWN]]
        return {"n_items": len(value), "sha256": hashlib.sha256(content).hexdigest(), "first": first}
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def _summary(document: Mapping[str, Any], tensors: list[dict[str, Any]], command: str, run_id: str) -> str:
    model, memory, config = document["model"], document["memory"], document["config"]
    here = environment()
    types: dict[str, list[int]] = {}
    for row in tensors:
        types.setdefault(row["type"], []).append(row["bytes"])
    timings = [
        (name.removesuffix("_s").replace("_", " "), f"{1000 * value:.2f} ms")
        for name, value in document["timings"].items()
    ]
    checks = [
        f"| {check['name']} | {'pass' if check['passed'] else '**FAIL**'} | {check['detail'].replace('|', '/')} |"
        for check in document["checks"]
    ]
    parts = [
        f"# Loading {model['file']}: {'passed' if document['passed'] else 'FAILED'}",
        f"What llorch read from the file, checked, and would take to run it (run {run_id}).",
        "\n".join(
            [
                f"- **file**: GGUF v{model['version']}, {model['bytes']:,} bytes, sha256 `{model['sha256']}`",
                "- **sizes**: " + ", ".join(f"{key} {value:g}" for key, value in config.items()),
                "- **tensors**: "
                + ", ".join(f"{len(n)} {name} ({sum(n):,} bytes)" for name, n in sorted(types.items())),
                f"- **metadata**: {len(document['metadata'])} keys",
                f"- **weights**: {memory['weights_residence']}, {memory['weights_bytes']:,} bytes of memory "
                f"({memory['weights_reason']})",
                f"- **KV cache**: at most {memory['kv_bytes']:,} bytes for {memory['n_ctx']} tokens, "
                f"{memory['kv_type']}",
                f"- **kernels**: {here['kernels']['path']} on {here['kernels']['cpu']}",
                f"- **llorch**: {here['llorch']}, commit `{here['commit']}`, Python {here['python']}, "
                f"NumPy {here['numpy']}, Numba {here['numba']}",
            ]
        ),
        "## Checks",
        "\n".join(["| check | verdict | what was found |", "|---|---|---|", *checks]),
        "## Time, on this machine, once",
        "\n".join(["| step | time |", "|---|---|", *(f"| {name} | {value} |" for name, value in timings)]),
        "## Check it yourself",
        f"    {command}\n\n    llorch validate --verify proof_bundle/loading/{run_id}\n\n"
        "Files: `loading.json` (metadata, sizes, memory, timings, checks), `tensors.ndjson` (place, size and "
        "hash of every tensor), `bundle.json` (environment and hashes).",
    ]
    return "\n\n".join(parts) + "\n"
