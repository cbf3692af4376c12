#!/usr/bin/env python3
"""Dump every named intermediate of llama.cpp for one prompt: the reference of `llorch validate`.

    python -m tools.reference.extract_checkpoints -m MODEL.gguf -p "Once upon a time" -o DIR
    python -m tools.reference.extract_checkpoints -m MODEL.gguf -p "Once upon a time" -o DIR --f32

DIR gets `manifest.json`, `prefill.npz` and `decode.npz`. Array keys are ``prefill/<stage>`` and
``decode/<step>/<stage>`` with stages such as ``attn_norm-0`` or ``result_output``; the first axis is
the tokens of the pass (scores: heads, tokens, keys). Decode step s feeds greedy token s at position n_prompt + s.
The output of every layer is kept, whatever `--layers` says: it is the next layer's input and gives the drift curve.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tools.reference.checkpoint_recording import Arrays, Run, record
from tools.reference.ggml_tensor import ReferenceToolError
from tools.reference.llama_cpp_eval import load_llama_cpp, sha256_file
from tools.reference.make_f32_twin import Twin, TwinError, make_f32_twin, weight_types
from tools.reference.reference_nodes import Stage

SCHEMA = "llorch-reference/1"
MANIFEST = "manifest.json"


@contextmanager
def f32_file(path: Path, twin_path: Path | None) -> Iterator[tuple[Path, Twin | None]]:
    """The file to run for the f32 profile: the model itself when it is all F32, else its twin."""
    if set(weight_types(path)) == {"F32"}:
        yield path, None
    elif twin_path is not None:
        yield twin_path, make_f32_twin(path, twin_path)
    else:
        with tempfile.TemporaryDirectory(prefix="llorch-twin-") as directory:
            target = Path(directory) / f"{path.stem}-f32-twin.gguf"
            yield target, make_f32_twin(path, target)


def build_manifest(args: argparse.Namespace, run: Run, twin: Twin | None, command: str) -> dict[str, Any]:
    """The manifest without its entries for arrays and files."""
    model: Path = args.model
    return {
        "schema": SCHEMA,
        "generated_by": "tools/reference/extract_checkpoints.py; do not edit",
        "command": command,
        "profile": "f32" if args.f32 else "native",
        "model": {
            "file": model.name,
            "sha256": sha256_file(model),
            "bytes": model.stat().st_size,
            "name": run.model_name,
            "sizes": asdict(run.sizes),
            "tensor_types": weight_types(model),
        },
        "twin": asdict(twin) if twin else None,
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


def _layers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _command(argv: list[str]) -> str:
    """The command to reproduce this, with absolute paths reduced to their last part."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in argv]
    return shlex.join(["python", "-m", "tools.reference.extract_checkpoints", *words])


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True, type=Path, help="GGUF file")
    parser.add_argument("-p", "--prompt", required=True, help="prompt text")
    parser.add_argument("-o", "--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--layers", type=_layers, help="layers to keep in full, e.g. 0,15,31 (default all)")
    parser.add_argument("--n-decode", type=int, default=10, help="greedy decode steps (default 10)")
    parser.add_argument(
        "--decode-stages",
        choices=("all", "kv"),
        default="all",
        help="all stages of the decode steps, or rotated K, V and logits only (smaller)",
    )
    parser.add_argument("--f32", action="store_true", help="run the F32 twin of the model instead")
    parser.add_argument("--twin", type=Path, help="where to keep the F32 twin (default: a temporary file)")
    parser.add_argument("--build-flags", help="how the llama.cpp library was built, to be recorded")
    parser.add_argument("--force", action="store_true", help="replace a reference that is there already")
    args = parser.parse_args(argv)
    if args.n_decode < 0:
        parser.error("--n-decode must not be negative")
    if args.twin and not args.f32:
        parser.error("--twin needs --f32")
    return args


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_arguments(argv)
    try:
        refuse_overwriting(args.out, args.force)
        load_llama_cpp()
        with f32_file(args.model, args.twin) if args.f32 else _as_it_is(args.model) as (path, twin):
            run = record(
                path,
                args.prompt,
                layers=args.layers,
                n_decode=args.n_decode,
                decode_stages=args.decode_stages,
                build_flags=args.build_flags,
            )
        manifest = build_manifest(args, run, twin, _command(argv))
        write_reference(args.out, manifest, run.recording.arrays)
    except (ReferenceToolError, TwinError, OSError) as error:
        print(f"extract_checkpoints: {error}", file=sys.stderr)
        return 2
    n_bytes = sum(entry["bytes"] for entry in manifest["files"].values())
    print(
        f"{args.out}: {len(manifest['arrays'])} arrays, {n_bytes / 1e6:.2f} MB, profile {manifest['profile']}"
    )
    return 0


@contextmanager
def _as_it_is(path: Path) -> Iterator[tuple[Path, Twin | None]]:
    yield path, None


if __name__ == "__main__":
    sys.exit(main())
