"""The files of a reference dump: `manifest.json` beside npz archives, written whole or not at all."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from llorch.errors import LlorchError
from tools.reference.checkpoint_recording import Arrays, Run
from tools.reference.ggml_tensor import ReferenceToolError
from tools.reference.llama_cpp_eval import sha256_file
from tools.reference.reference_nodes import Stage

SCHEMA = "llorch-reference/1"
MANIFEST = "manifest.json"


def build_manifest(args: argparse.Namespace, run: Run, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest without its entries for arrays and files.

    Args:
        args: the command line; `add_recording_options` gave it what is read here.
        run: what was recorded.
        made_by: `generated_by`, `command`, `profile`, `model` (file, sha256, bytes, tensor_types) and `twin`.
    """
    model = {"name": run.model_name, "sizes": asdict(run.sizes)}
    return {
        "schema": SCHEMA,
        **made_by,
        "model": {**made_by["model"], **model},
        "reference": run.identity,
        "settings": run.settings,
        "prompt": {"text": args.prompt, "token_ids": run.prompt_token_ids},
        "greedy": run.greedy,
        "layers": run.layers,
        "n_decode": args.n_decode,
        "decode_stages": args.decode_stages,
        "tensors": {name: _without_name(stage) for name, stage in run.recording.stages.items()},
        "arrays": {},
        "files": {},
    }


def _without_name(stage: Stage) -> dict[str, str]:
    return {key: value for key, value in asdict(stage).items() if key != "name"}


def to_json(manifest: dict[str, Any]) -> str:
    """JSON with one line per tensor, array and file."""
    parts = []
    for key, value in manifest.items():
        if key in ("tensors", "arrays", "files"):
            lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f" {json.dumps(key)}: {{\n{lines}\n }}")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def refuse_overwriting(target: Path, force: bool) -> None:
    """Raise unless `target` is absent, an empty folder, or a reference that `force` allows to replace."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ReferenceToolError(f"{target} exists and is no folder")
    if any(target.iterdir()):
        if not force:
            raise ReferenceToolError(f"{target} is not empty; --force replaces a reference there")
        if not (target / MANIFEST).is_file():
            raise ReferenceToolError(f"{target} is not empty and holds no {MANIFEST}; not replaced")


def write_reference(target: Path, manifest: dict[str, Any], arrays: Arrays) -> None:
    """Write manifest and arrays into a new folder beside `target`, then move it into its place."""
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        for name, prefix in (("prefill.npz", "prefill/"), ("decode.npz", "decode/")):
            members = {key: value for key, value in arrays.items() if key.startswith(prefix)}
            if members:
                path = partial / name
                np.savez_compressed(path, **members)  # type: ignore[arg-type]
                manifest["arrays"] |= {k: {"file": name, "shape": list(v.shape)} for k, v in members.items()}
                manifest["files"][name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        (partial / MANIFEST).write_text(to_json(manifest), encoding="utf-8")
        replaced = target.with_name(f".{target.name}.replaced-{os.getpid()}")
        if target.exists():
            target.rename(replaced)
        partial.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make_dump(
    args: argparse.Namespace,
    program: str,
    make: Callable[[], tuple[Run, Mapping[str, Any]]],
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """What is left of such a program once its arguments are read; returns its exit code.

    Args:
        args: the command line; `add_recording_options` gave it what is read here.
        program: its name, in front of errors.
        make: runs the model; what was recorded, and `made_by` of `build_manifest`.
        errors: what else than usual may be wrong with the model.
    """
    expected: tuple[type[Exception], ...] = (ReferenceToolError, LlorchError, OSError, *errors)
    try:
        refuse_overwriting(args.out, args.force)
        run, made_by = make()
        manifest = build_manifest(args, run, made_by)
        write_reference(args.out, manifest, run.recording.arrays)
    except expected as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    print(summary_of(args.out, manifest))
    return 0


def what_to_keep(args: argparse.Namespace) -> dict[str, Any]:
    """The options that say what is recorded, as every `record` takes them."""
    return {"layers": args.layers, "n_decode": args.n_decode, "decode_stages": args.decode_stages}


def summary_of(target: Path, manifest: Mapping[str, Any]) -> str:
    """What was written, for people."""
    n_bytes = sum(entry["bytes"] for entry in manifest["files"].values())
    arrays = f"{len(manifest['arrays'])} arrays, {n_bytes / 1e6:.2f} MB"
    return f"{target}: {arrays}, profile {manifest['profile']}"


def add_recording_options(parser: argparse.ArgumentParser, model: str) -> None:
    """The options that every program of this kind has; `model` says what `-m` names."""
    parser.add_argument("-m", "--model", required=True, type=Path, help=model)
    parser.add_argument("-p", "--prompt", required=True, help="prompt text")
    parser.add_argument("-o", "--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--layers", type=_layers, help="layers to keep in full, e.g. 0,15,31 (default all)")
    parser.add_argument("--n-decode", type=_count, default=10, help="greedy decode steps (default 10)")
    parser.add_argument(
        "--decode-stages",
        choices=("all", "kv"),
        default="all",
        help="all stages of the decode steps, or rotated K, V and logits only (smaller)",
    )
    parser.add_argument("--force", action="store_true", help="replace a reference that is there already")


def _layers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _count(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def command_line(module: str, argv: list[str]) -> str:
    """The command to reproduce this, with absolute paths reduced to their last part."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in argv]
    return shlex.join(["python", "-m", f"tools.reference.{module}", *words])
