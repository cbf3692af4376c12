"""`llorch inspect`: what is in a model file, and how it would be run on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llorch.chat.choose import choose_chat_template
from llorch.cli import console
from llorch.cli.inspect_graph import print_graph
from llorch.cli.options import add_field, add_json, settings_from
from llorch.engine.kv_plan import plan_kv_cache
from llorch.environment import reproducible_command
from llorch.errors import InputError, SettingsError
from llorch.formats.onnx.model import OnnxModel
from llorch.formats.printed import escaped, printable
from llorch.formats.source import ModelSource, open_source
from llorch.kernels import paths
from llorch.kernels.layout import KV_BLOCK_SIZE
from llorch.machine.numa import cpus_of_nodes
from llorch.machine.places import node_groups, places_for
from llorch.machine.threads import allowed_cpus, default_threads
from llorch.model.config import ModelConfig
from llorch.model.kv_cache import KVCache
from llorch.model.residence import choose_residence, packed_bytes
from llorch.model.weights import Weights
from llorch.model_files import resolve_model_path
from llorch.open_model import check_source
from llorch.settings import Settings
from llorch.text.tokenizer import Tokenizer, load_tokenizer

N_SHOWN = 8
"""Items of an array that are shown; the rest is counted."""

MAPPED_RISK = (
    "the file must stay as it is while llorch runs: if it is cut, the kernel ends the process (SIGBUS); "
    "replace it by renaming another"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("place", nargs="?", metavar="MODEL", help="the model, in place of -m")
    for name in ("ctx_size", "parallel", "threads", "pin_threads", "numa", "override_pre", "chat_template"):
        add_field(parser, name)
    parser.add_argument(
        "--proof", action="store_true", help="also load the model and write a proof bundle of kind `loading`"
    )
    parser.add_argument(
        "--proof-dir", type=Path, metavar="DIR", help="folder of proof bundles (default: proof_bundle)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the description; 1 when a proof bundle was asked for and one of its checks failed."""
    if args.place is not None:
        if "model" in args:
            raise SettingsError(f"-m/--model: {printable(args.place)} is named, too; name one model")
        args.model = args.place
    settings = settings_from(args)
    path = resolve_model_path(settings.model)
    source = open_source(path)
    try:
        description = describe(source, settings)
    finally:
        source.close()
    passed = True
    if args.proof:
        folder, passed = _prove(path, settings, args.proof_dir, args.words)
        description["bundle"] = str(folder)
    if args.json:
        console.print_json(description)
    else:
        _print(source, description)
        if args.proof:
            print(f"\n{'passed' if passed else 'FAILED'}: {printable(description['bundle'])}")
    return 0 if passed else 1


def _prove(path: Path, settings: Settings, directory: Path | None, words: list[str]) -> tuple[Path, bool]:
    from llorch.validation.bundle_writer import BundleWriter
    from llorch.validation.loading_bundle import write_loading_bundle

    with console.Progress() as progress:
        return write_loading_bundle(
            BundleWriter("loading", directory),
            path,
            reproducible_command(["llorch", *words]),
            n_threads=settings.threads,
            residence=settings.weights,
            kv_type=settings.kv_type,
            override_pre=settings.override_pre,
            progress=progress,
        )


def describe(source: ModelSource, settings: Settings) -> dict[str, Any]:
    """Everything `llorch inspect` says.

    What the file cannot provide (a vocabulary-only file has no weights to plan for) is None or empty, and the reason
    stands under ``problem``; the graph of an ONNX file is described even if it is no Llama model's.
    """
    description: dict[str, Any] = {
        "path": str(source.path),
        **({"graph": source.inventory()} if isinstance(source, OnnxModel) else {}),
        "metadata": {},
        "config": None,
        "tensors": [],
        "kernels": _kernels(settings),
        "memory": None,
        "chat_template": None,
        "warnings": [],
        "problem": None,
    }
    try:
        description["metadata"] = {key: _shown(value) for key, value in source.metadata.items()}
        description["tensors"] = _tensors(source)
        description["config"] = dataclasses.asdict(ModelConfig.from_metadata(source.metadata))
        contents = check_source(source, with_tokenizer=False)
        description["warnings"] += contents.oddities
        description["memory"] = _memory(contents.config, contents.weights, settings)
        tokenizer = load_tokenizer(source.metadata, description["warnings"], settings.override_pre)
        description["chat_template"] = _chat_template(source, tokenizer, settings)
    except InputError as error:
        description["problem"] = str(error)
    return description


def _shown(value: object) -> object:
    """A metadata value as JSON can hold it; long arrays by their length and first items."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, np.ndarray | list):
        items: list[object] = value.tolist() if isinstance(value, np.ndarray) else value
        first = [_shown(item) for item in items[:N_SHOWN]]
        return first if len(items) <= N_SHOWN else {"n_items": len(items), "first": first}
    return value


def _tensors(source: ModelSource) -> list[dict[str, Any]]:
    """Every tensor of the file, those of types that llorch cannot run included."""
    return [
        {"name": info.name, "type": info.type_name, "shape": list(info.shape), "bytes": info.n_bytes}
        for info in source.tensor_infos.values()
    ]


def _kernels(settings: Settings) -> dict[str, Any]:
    groups = node_groups(settings.numa)
    n_threads, reason = default_threads([cpu for group in groups for cpu in group])
    if settings.threads:
        n_threads, reason = settings.threads, "as set"
    places = places_for(n_threads, groups, pin=settings.pin_threads)
    threads = {"threads": n_threads, "threads_reason": reason, "threads_on": str(places)}
    return {**paths.describe(), **threads, "numa_nodes": len(cpus_of_nodes(allowed_cpus()))}


def _memory(config: ModelConfig, weights: Weights, settings: Settings) -> dict[str, Any]:
    """What the weights and the KV cache take, in bytes."""
    residence, reason = choose_residence(weights, settings.weights)
    n_ctx, n_blocks = plan_kv_cache(
        config, ctx_size=settings.ctx_size, n_parallel=settings.parallel, kv_type=settings.kv_type
    )
    return {
        "weights_residence": residence,
        "weights_reason": reason,
        "weights_risk": MAPPED_RISK if residence == "mapped" else None,
        "weights_bytes": packed_bytes(weights) if residence == "packed" else 0,
        "file_bytes": sum(tensor.n_bytes for tensor in weights.matrices()),
        "packed_bytes": packed_bytes(weights),
        "kv_type": settings.kv_type,
        "kv_bytes_per_token": KVCache.bytes_per_block(config, settings.kv_type) // KV_BLOCK_SIZE,
        "kv_bytes": n_blocks * KVCache.bytes_per_block(config, settings.kv_type),
        "n_ctx": n_ctx,
        "parallel": settings.parallel,
    }


def _chat_template(source: ModelSource, tokenizer: Tokenizer, settings: Settings) -> dict[str, Any]:
    """Which one is used, whether it works, and what it can write."""
    template, note = choose_chat_template(source.metadata, tokenizer, settings.chat_template)
    return {
        "name": template.name,
        "first_line": template.source.strip().partition("\n")[0][: console.MAX_SHOWN_CHARS],
        "note": note,
        "usable": template.problem is None,
        "supports_system": template.supports_system,
        "supports_tools": template.supports_tools,
        "end_token": None if template.end_id is None else tokenizer.piece(template.end_id),
    }


def _print(source: ModelSource, description: Mapping[str, Any]) -> None:
    """The description for people."""
    print(printable(description["path"]))
    if "graph" in description:
        print_graph(description["graph"])
    print("\nmetadata")
    console.print_rows([(key, console.one_line(value)) for key, value in description["metadata"].items()])
    if description["config"]:
        print("\nconfig")
        console.print_rows([(key, f"{value:g}") for key, value in description["config"].items()])
    tensors = description["tensors"]
    print(f"\ntensors ({len(tensors)}, {console.human_bytes(sum(t['bytes'] for t in tensors))})")
    console.print_rows(
        [
            (t["name"], t["type"], " x ".join(map(str, t["shape"])), console.human_bytes(t["bytes"]))
            for t in tensors
        ]
    )
    print("\nkernels")
    console.print_rows(
        [
            (key, " ".join(value) if isinstance(value, list) else str(value))
            for key, value in description["kernels"].items()
            if value is not None and not key.startswith("default_")
        ]
    )
    if memory := description["memory"]:
        print("\nmemory")
        console.print_rows(
            [
                ("weights", _weights_line(memory)),
                *([("", memory["weights_risk"])] if memory["weights_risk"] else []),
                (
                    "KV cache",
                    f"at most {console.human_bytes(memory['kv_bytes'])} ({memory['kv_type']}, "
                    f"{memory['parallel']} sequences of {memory['n_ctx']} tokens, "
                    f"{console.human_bytes(memory['kv_bytes_per_token'])} a token)",
                ),
            ]
        )
    if template := description["chat_template"]:
        print("\nchat template")
        console.print_rows(
            [(key, console.one_line(value)) for key, value in template.items() if value is not None]
        )
    if description["warnings"]:
        print("\nodd, but usable")
        console.print_rows([(warning,) for warning in description["warnings"]])
    if description["problem"]:
        print(f"\nllorch cannot generate with this file: {escaped(description['problem'])}")


def _weights_line(memory: Mapping[str, Any]) -> str:
    if memory["weights_residence"] == "packed":
        return f"{console.human_bytes(memory['weights_bytes'])} packed ({memory['weights_reason']})"
    return f"mapped from the file, {console.human_bytes(memory['file_bytes'])} ({memory['weights_reason']})"
