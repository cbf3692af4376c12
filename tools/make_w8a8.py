#!/usr/bin/env python3
"""Quantise a Llama directory to int8 weights with a scale a row (`w8a8`), as compressed-tensors stores them.

    python -m tools.make_w8a8 IN OUT                # a Hugging Face directory of safetensors, F32, F16 or BF16
    python -m tools.make_w8a8 tiny OUT --seed 3     # a tiny random one

Only NumPy computes. Every linear layer but the head is quantised: ``scale = max |row| / 127.5``, rounded to the type of
the weights, ``q = round_half_even(clamp(w / scale, -128, 127))``. transformers with compressed-tensors loads the
result. Shards are joined into one file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.formats.safetensors.shards import open_safetensors
from llorch.quant.types import BF16, F16, F32
from tests.support.hf_directories import write_directory
from tests.support.safetensors_writer import encoded, write_safetensors

TYPES = {quant.name: quant for quant in (F32, F16, BF16)}
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json")

SCHEME: Mapping[str, Any] = {
    "num_bits": 8,
    "type": "int",
    "symmetric": True,
    "group_size": None,
    "block_structure": None,
    "actorder": None,
}
QUANTIZATION: Mapping[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "global_compression_ratio": None,
    "kv_cache_scheme": None,
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {**SCHEME, "strategy": "channel", "dynamic": False, "observer": "minmax"},
            "input_activations": {**SCHEME, "strategy": "token", "dynamic": True, "observer": None},
            "output_activations": None,
        }
    },
}
"""What llm-compressor writes into config.json for its scheme W8A8."""


def quantized(weight: NDArray[np.float32], dtype: str) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 (n_out, n_in) and scales (n_out, 1), which are numbers of the type `dtype`."""
    scales = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127.5)
    scales = TYPES[dtype].decode(encoded(scales, dtype).reshape(-1).view(np.uint8)).reshape(-1, 1)
    scales[scales == 0] = np.finfo(np.float32).eps
    return np.rint(np.clip(weight / scales, -128, 127)).astype(np.int8), scales


def is_quantized(name: str) -> bool:
    """Whether the layer of a weight is."""
    return name.endswith("_proj.weight")


def make_w8a8(source: Path, to: Path) -> Path:
    """Quantise the directory `source`; returns `to`, which must not exist."""
    to.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file() and not any(path.match(pattern) for pattern in WEIGHT_FILES):
            shutil.copy(path, to)
    config = json.loads((source / "config.json").read_text("utf-8"))
    text = json.dumps(config | {"quantization_config": QUANTIZATION}, indent=2)
    (to / "config.json").write_text(text + "\n", encoding="utf-8")
    tensors: dict[str, tuple[str, NDArray[Any]]] = {}
    for file in open_safetensors(source):
        for name, info in file.infos.items():
            raw = file.raw(name)
            if not is_quantized(name):
                tensors[name] = info.dtype, raw.view(f"<u{TYPES[info.dtype].block_bytes}").reshape(info.shape)
                continue
            integers, scales = quantized(TYPES[info.dtype].decode(raw).reshape(info.shape), info.dtype)
            tensors[name] = "I8", integers
            tensors[f"{name}_scale"] = info.dtype, encoded(scales, info.dtype)
    write_safetensors(to / "model.safetensors", tensors, metadata={"format": "pt"})
    return to


def main() -> int:
    """Make the directory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="IN", help="a directory, or 'tiny'")
    parser.add_argument("to", metavar="OUT", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of a tiny one")
    args = parser.parse_args()
    if args.to.exists():
        parser.error(f"{args.to} exists")
    if args.source == "tiny":
        with tempfile.TemporaryDirectory() as folder:
            make_w8a8(write_directory(Path(folder), seed=args.seed), args.to)
    else:
        make_w8a8(Path(args.source), args.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
