#!/usr/bin/env python3
"""Dump every intermediate of transformers for one prompt: a reference of `llorch validate` for a directory.

    python -m tools.reference.extract_checkpoints_hf -m DIR -p "Once upon a time" -o OUT
    llorch validate -m DIR --reference OUT

The dump is that of `extract_checkpoints.py`, taken by hooks in Hugging Face's own implementation of Llama: Q and K are
put into GGUF's order of components. transformers computes in float64, whatever the type of the weights, and its values
are kept as float32, so the profile is `f32`: `llorch validate` expands weights of other types as well, and the
manifest holds the hash of what they expand to. Needs torch and transformers (`pip install 'llorch[oracles]'`).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from llorch.formats.protocol import ModelSource
from llorch.formats.source import open_source
from llorch.quant.tensor import dequantize
from tools.oracles.transformers_run import OracleError
from tools.reference.checkpoint_recording import Run
from tools.reference.dump_files import add_recording_options, command_line, make_dump, what_to_keep
from tools.reference.ggml_tensor import ReferenceToolError


def prompt_ids(directory: Path, text: str) -> list[int]:
    """Ids of a prompt by the directory's own tokenizer, BOS included where it adds one."""
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ReferenceToolError(f"{directory} holds no tokenizer.json")
    ids: list[int] = Tokenizer.from_file(str(path)).encode(text).ids
    return ids


def made_by(directory: Path, argv: list[str]) -> dict[str, Any]:
    """What was run, for the manifest."""
    source = open_source(directory)
    try:
        n_bytes, sha256 = source.hashed()
        types = Counter(info.type_name for info in source.tensor_infos.values())
        twin = None if set(types) == {"F32"} else _twin(source, directory)
    finally:
        source.close()
    return {
        "generated_by": "tools/reference/extract_checkpoints_hf.py; do not edit",
        "command": command_line("extract_checkpoints_hf", argv),
        "profile": "f32",
        "model": {
            "file": directory.resolve().name,
            "sha256": sha256,
            "bytes": n_bytes,
            "tensor_types": dict(types),
        },
        "twin": twin,
    }


def _twin(source: ModelSource, directory: Path) -> dict[str, Any]:
    """The F32 expansion of a directory: only its weights are hashed, as it never is a file."""
    digest = hashlib.sha256()
    for name in sorted(source.tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(dequantize(source.tensors[name]).astype("<f4", copy=False)).data)
    weights = digest.hexdigest()
    return {"file": f"{directory.resolve().name} in float32", "sha256": weights, "weights_sha256": weights}


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_recording_options(parser, "directory of Hugging Face")
    args = parser.parse_args(argv)

    def make() -> tuple[Run, dict[str, Any]]:
        from tools.reference.transformers_recording import record

        run = record(args.model, prompt_ids(args.model, args.prompt), **what_to_keep(args))
        return run, made_by(args.model, argv)

    return make_dump(args, "extract_checkpoints_hf", make, (OracleError,))


if __name__ == "__main__":
    sys.exit(main())
