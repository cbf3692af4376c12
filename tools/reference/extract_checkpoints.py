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
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.reference.checkpoint_recording import Run, record
from tools.reference.dump_files import add_recording_options, command_line, make_dump, what_to_keep
from tools.reference.llama_cpp_eval import load_llama_cpp, sha256_file
from tools.reference.make_f32_twin import Twin, TwinError, make_f32_twin, weight_types


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


def made_by(args: argparse.Namespace, twin: Twin | None, argv: list[str]) -> dict[str, Any]:
    """What was run, for the manifest."""
    model: Path = args.model
    return {
        "generated_by": "tools/reference/extract_checkpoints.py; do not edit",
        "command": command_line("extract_checkpoints", argv),
        "profile": "f32" if args.f32 else "native",
        "model": {
            "file": model.name,
            "sha256": sha256_file(model),
            "bytes": model.stat().st_size,
            "tensor_types": weight_types(model),
        },
        "twin": asdict(twin) if twin else None,
    }


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_recording_options(parser, "GGUF file")
    parser.add_argument("--f32", action="store_true", help="run the F32 twin of the model instead")
    parser.add_argument("--twin", type=Path, help="where to keep the F32 twin (default: a temporary file)")
    parser.add_argument("--build-flags", help="how the llama.cpp library was built, to be recorded")
    args = parser.parse_args(argv)
    if args.twin and not args.f32:
        parser.error("--twin needs --f32")
    return args


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_arguments(argv)

    def make() -> tuple[Run, dict[str, Any]]:
        load_llama_cpp()
        with f32_file(args.model, args.twin) if args.f32 else _as_it_is(args.model) as (path, twin):
            run = record(path, args.prompt, build_flags=args.build_flags, **what_to_keep(args))
        return run, made_by(args, twin, argv)

    return make_dump(args, "extract_checkpoints", make, (TwinError,))


@contextmanager
def _as_it_is(path: Path) -> Iterator[tuple[Path, Twin | None]]:
    yield path, None


if __name__ == "__main__":
    sys.exit(main())
