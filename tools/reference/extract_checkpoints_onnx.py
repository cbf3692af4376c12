#!/usr/bin/env python3
"""Dump every intermediate of onnxruntime for one prompt: a reference of `llorch validate` for an ONNX graph.

    python -m tools.reference.extract_checkpoints_onnx -m MODEL.onnx -p "Once upon a time" -o OUT
    llorch validate -m MODEL.onnx --reference OUT

The dump is that of `extract_checkpoints.py`. The places of the stages are those at which llorch recognised Llama in the
graph; they become further outputs of the graph. What one node computes on the way (attention, a norm) is worked out in
NumPy from its inputs. Q and K are put into GGUF's order of components. Needs onnx and onnxruntime, and weights in
float32. Where no tokenizer.json lies beside the graph, the prompt is token ids, separated by spaces.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from llorch.formats.source import open_source
from tools.reference.checkpoint_recording import Run
from tools.reference.dump_files import add_recording_options, command_line, make_dump, what_to_keep
from tools.reference.extract_checkpoints_hf import prompt_ids
from tools.reference.ggml_tensor import ReferenceToolError


def made_by(path: Path, argv: list[str]) -> dict[str, Any]:
    """What was run, for the manifest.

    Raises:
        ReferenceToolError: the weights are not all float32.
    """
    source = open_source(path)
    try:
        n_bytes, sha256 = source.hashed()
        types = Counter(info.type_name for info in source.tensor_infos.values())
    finally:
        source.close()
    if set(types) != {"F32"}:
        raise ReferenceToolError(
            f"{path}: has weights of the types {', '.join(sorted(types))}, expected F32 only"
        )
    return {
        "generated_by": "tools/reference/extract_checkpoints_onnx.py; do not edit",
        "command": command_line("extract_checkpoints_onnx", argv),
        "profile": "f32",
        "model": {"file": path.name, "sha256": sha256, "bytes": n_bytes, "tensor_types": dict(types)},
        "twin": None,
    }


def _ids(path: Path, text: str) -> list[int]:
    if (path.parent / "tokenizer.json").is_file():
        return prompt_ids(path.parent, text)
    words = text.split()
    if not words or not all(word.isdecimal() for word in words):
        raise ReferenceToolError(f"{path.parent} holds no tokenizer.json, so the prompt must be token ids")
    return [int(word) for word in words]


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_recording_options(parser, "ONNX graph")
    args = parser.parse_args(argv)

    def make() -> tuple[Run, dict[str, Any]]:
        from tools.reference.onnxruntime_recording import record

        run = record(args.model, _ids(args.model, args.prompt), **what_to_keep(args))
        return run, made_by(args.model, argv)

    return make_dump(args, "extract_checkpoints_onnx", make)


if __name__ == "__main__":
    sys.exit(main())
