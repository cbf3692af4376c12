#!/usr/bin/env python3
"""Store what transformers computes from Hugging Face directories, for tests that run without PyTorch.

    python -m tools.oracles.transformers_values tiny -o tests/golden/hugging_face
    python -m tools.oracles.transformers_values w8a8 -o tests/golden/hugging_face
    python -m tools.oracles.transformers_values DIR -p "Once upon a time" -o tests/golden/hugging_face

`tiny` makes all directories of `tools/oracles/tiny_llamas.py` from their seeds, `w8a8` some of them quantised to int8
(`tools/make_w8a8.py`), which transformers runs with compressed-tensors; DIR is a real one, whose values are
stored under its name. NAME.json says what was computed, from which weights (by hash) and prompt, and the 100 greedy
tokens; NAME.npz holds logits of some rows and columns, float32. Weights of any type are converted to float32 first, so
that nothing but float32 rounding lies between these values and exact ones. `in_bf16` says how far transformers' own
computation in BF16 is from them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.hf_directories import sha256_of_weights, write_directory
from tools.make_w8a8 import make_w8a8
from tools.oracles.tiny_llamas import QUANTIZED, TINY_LLAMAS, directory_of
from tools.oracles.transformers_run import greedy_tokens, load_compressed, load_llama, logits_of, versions

SCHEMA = "llorch-oracle/1"
TINY_PROMPT = [1, *(2 + (37 * i * i + 11 * i) % 380 for i in range(23))]
N_GREEDY = 100
N_ROWS = 4
N_COLUMNS = 2048
"""At most as many columns of a row are stored."""


def values_of(
    directory: Path, token_ids: Sequence[int], load: Callable[..., Any] = load_llama
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """What transformers computes from a directory: its description, and the chosen logits."""
    model = load(directory)
    logits = logits_of(model, token_ids)
    rows = [round(i) for i in np.linspace(0, len(token_ids) - 1, N_ROWS)]
    step = -(-logits.shape[1] // N_COLUMNS)
    greedy, margins = greedy_tokens(model, token_ids, N_GREEDY)
    in_bf16 = logits_of(load(directory, "bfloat16"), token_ids).astype(np.float64)
    description = {
        "sha256": sha256_of_weights(directory),
        "prompt": list(token_ids),
        "rows": rows,
        "column_step": step,
        "greedy": greedy,
        "smallest_margin": float(f"{min(margins):.3g}"),
        "in_bf16": {"nmse": float(f"{nmse(in_bf16, logits):.3g}")},
    }
    return description, logits[rows, ::step]


def nmse(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Normalised mean squared error."""
    theirs = theirs.astype(np.float64)
    return float(((ours - theirs) ** 2).sum() / (theirs**2).sum())


def write_values(
    folder: Path, name: str, cases: dict[str, dict[str, Any]], arrays: dict[str, NDArray[np.float32]]
) -> None:
    """NAME.json, a line for each case, and NAME.npz."""
    head = {
        "schema": SCHEMA,
        "generated_by": "tools/oracles/transformers_values.py; do not edit",
        "versions": versions(),
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    entries = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in cases.items())
    text = ",\n".join([*lines, f' "cases": {{\n{entries}\n }}'])
    (folder / f"{name}.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
    np.savez_compressed(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]


def tiny_values() -> tuple[dict[str, dict[str, Any]], dict[str, NDArray[np.float32]]]:
    """Cases and logits of all tiny directories."""
    cases, arrays = {}, {}
    for name in TINY_LLAMAS:
        with tempfile.TemporaryDirectory() as folder:
            arguments = directory_of(name)
            description, arrays[name] = values_of(write_directory(Path(folder), **arguments), TINY_PROMPT)
        cases[name] = {"directory": arguments, **description}
        print(f"{name}: smallest margin {description['smallest_margin']}, BF16 {description['in_bf16']}")
    return cases, arrays


def w8a8_values() -> tuple[dict[str, dict[str, Any]], dict[str, NDArray[np.float32]]]:
    """Cases and logits of the tiny directories that are quantised to int8."""
    cases, arrays = {}, {}
    for name, given in QUANTIZED.items():
        with tempfile.TemporaryDirectory() as folder:
            arguments = {"tokenizer": False, **given}
            made = make_w8a8(write_directory(Path(folder, "unquantized"), **arguments), Path(folder, name))
            description, arrays[name] = values_of(made, TINY_PROMPT, load_compressed)
        cases[name] = {"directory": arguments, **description}
    return cases, arrays


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "directory", help="a directory, or `tiny` for all tiny random ones, `w8a8` for quantised ones"
    )
    parser.add_argument("-p", "--prompt", default="Once upon a time", help="prompt of a real directory")
    parser.add_argument("-o", "--out", required=True, type=Path, help="folder to write into")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.directory == "tiny":
        write_values(args.out, "tiny", *tiny_values())
        return 0
    if args.directory == "w8a8":
        write_values(args.out, "w8a8", *w8a8_values())
        return 0
    from tokenizers import Tokenizer

    directory = Path(args.directory)
    token_ids = Tokenizer.from_file(str(directory / "tokenizer.json")).encode(args.prompt).ids
    description, logits = values_of(directory, token_ids)
    case = {"text": args.prompt, **description}
    write_values(args.out, directory.name, {directory.name: case}, {directory.name: logits})
    return 0


if __name__ == "__main__":
    sys.exit(main())
