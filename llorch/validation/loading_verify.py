"""Recomputes what a `loading` bundle says about a file from the list of its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from llorch.quant.types import SUPPORTED
from llorch.validation.opened_bundle import Bundle

_TYPES = {kind.name: kind for kind in SUPPORTED.values()}


def verify_loading(bundle: Bundle) -> None:
    """Sizes follow from types and shapes, tensors lie in the file without overlaps, verdicts follow."""
    document = bundle.json("loading.json")
    rows = bundle.rows("tensors.ndjson")
    ends: dict[int, int] = {}
    for row in sorted(rows, key=lambda row: (row["part"], row["offset"])):
        bundle.n_recomputed += 1
        expected = math.prod(row["shape"][:-1]) * _TYPES[row["type"]].row_bytes(row["shape"][-1])
        if row["bytes"] != expected:
            bundle.problems.append(f"{row['name']}: {row['bytes']} bytes, type and shape give {expected}")
        if row["offset"] % document["model"]["alignment"]:
            bundle.problems.append(f"{row['name']}: offset {row['offset']} is not aligned")
        if row["offset"] < ends.get(row["part"], 0):
            bundle.problems.append(f"{row['name']}: overlaps the tensor before it")
        ends[row["part"]] = row["offset"] + row["bytes"]
    if sum(ends.values()) > document["model"]["bytes"]:
        bundle.problems.append("the tensors reach beyond the end of the file")
    _check_shapes(bundle, document["config"], {row["name"]: row["shape"] for row in rows})
    checks = {check["name"]: check["passed"] for check in document["checks"]}
    bundle.n_recomputed += len(checks)
    finite = all(row["first_bad_block"] is None for row in rows)
    if checks.get("all weights are finite") is not finite:
        bundle.problems.append("the check that all weights are finite does not follow from the tensors")
    if not all(checks.values()) == document["passed"] == bundle.index["passed"]:
        bundle.problems.append("the verdict of the bundle does not follow from its checks")


def _check_shapes(bundle: Bundle, config: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> None:
    n_q, n_kv = config["n_head"] * config["head_dim"], config["n_head_kv"] * config["head_dim"]
    n_embd, n_ff = config["n_embd"], config["n_ff"]
    expected = {"token_embd": [config["n_vocab"], n_embd], "output_norm": [n_embd]}
    for layer in range(config["n_layer"]):
        expected |= {
            f"blk.{layer}.{name}": shape
            for name, shape in {
                "attn_norm": [n_embd],
                "attn_q": [n_q, n_embd],
                "attn_k": [n_kv, n_embd],
                "attn_v": [n_kv, n_embd],
                "attn_output": [n_embd, n_q],
                "ffn_norm": [n_embd],
                "ffn_gate": [n_ff, n_embd],
                "ffn_up": [n_ff, n_embd],
                "ffn_down": [n_embd, n_ff],
            }.items()
        }
    for name, shape in expected.items():
        if shapes.get(f"{name}.weight") != shape:
            bundle.problems.append(f"{name}.weight: shape {shapes.get(f'{name}.weight')}, sizes give {shape}")
