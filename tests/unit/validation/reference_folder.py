"""Writes a small reference dump with made-up values, in the format of tools/reference/extract_checkpoints.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from llorch.validation.dumps import Sizes
from llorch.validation.tolerances import stage_key, stage_names

SIZES = Sizes(n_layer=2, n_embd=8, n_head=4, n_head_kv=2, head_dim=2, n_ff=12, n_vocab=16)
PROMPT_IDS = [1, 5, 9]
GREEDY_IDS = [3, 4, 7]


def make_arrays(decode_stages: str = "all") -> dict[str, np.ndarray]:
    """Made-up values for every stage that a dump with two decode steps holds."""
    rng = np.random.default_rng(1)
    arrays = {}
    passes = [("prefill", 3, 3), ("decode/0", 1, 4), ("decode/1", 1, 5)]
    for name, n_tokens, n_kv in passes:
        for stage, layer in stage_names(SIZES.n_layer):
            kept = (
                name == "prefill" or decode_stages == "all" or stage in ("Kcur_rope", "Vcur", "result_output")
            )
            if kept:
                shape = SIZES.shape(stage, n_tokens, n_kv)
                arrays[f"{name}/{stage_key(stage, layer)}"] = rng.standard_normal(shape).astype(np.float32)
    return arrays


def make_manifest(decode_stages: str = "all") -> dict[str, Any]:
    """A manifest that agrees with `make_arrays`, still without its files."""
    return {
        "schema": "llorch-reference/1",
        "command": "python -m tools.reference.extract_checkpoints -m tiny.gguf",
        "profile": "native",
        "model": {
            "file": "tiny.gguf",
            "sha256": "a" * 64,
            "sizes": {name: getattr(SIZES, name) for name in Sizes.model_fields},
        },
        "twin": None,
        "reference": {"program": "llama.cpp"},
        "settings": {"type_k": "f32"},
        "prompt": {"text": "Once", "token_ids": PROMPT_IDS},
        "greedy": {"token_ids": GREEDY_IDS, "margins": [1.0, 2.0, 0.5]},
        "layers": [0, 1],
        "n_decode": 2,
        "decode_stages": decode_stages,
        "tensors": {},
        "arrays": {},
        "files": {},
    }


def write_folder(directory: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    """Write both npz files, record their hashes in `manifest`, write that too."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, prefix in (("prefill.npz", "prefill/"), ("decode.npz", "decode/")):
        members = {key: value for key, value in arrays.items() if key.startswith(prefix)}
        if members:
            np.savez_compressed(directory / name, **members)  # type: ignore[arg-type]
            digest = hashlib.sha256((directory / name).read_bytes()).hexdigest()
            manifest["files"][name] = {"sha256": digest}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory
