"""Directories whose tensors are not those that `config.json` implies: each is refused with one line that names both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.formats.safetensors.file import SafetensorsFile
from tests.support.hostile_directories import good, model, refused
from tests.support.safetensors_writer import write_safetensors

__all__ = ["good", "model"]


def add(path: Path, name: str, dtype: str, values: Any) -> None:
    """Write the model again with one more tensor, or another one in the place of one."""
    file = SafetensorsFile(path / "model.safetensors")
    kinds = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
    tensors = {
        info.name: (info.dtype, file.raw(info.name).view(kinds[info.dtype]).reshape(info.shape))
        for info in file.infos.values()
    }
    tensors[name] = (dtype, values)
    write_safetensors(path / "new", tensors)
    os.replace(path / "new", path / "model.safetensors")


FOREIGN = ["lm_head.bias", "model.layers.0.self_attn.q_norm.weight", "transformer.wte.weight", "model.layers.0.x",
           "model.layers.-1.mlp.up_proj.weight", "model.layers.00.mlp.up_proj.weight", "", "vision_model.patch.weight",
           "model.layers.0.input_layernorm.bias", "model.layers.1e3.mlp.up_proj.weight"]  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_tensor_that_llama_does_not_have_is_refused(model: Path, name: str) -> None:
    add(model, name, "F32", np.zeros(4, np.float32))
    refused(model, f"tensor '{name}' is not part of a Llama model")


@pytest.mark.parametrize("layer", [2, 9_999_999])
def test_a_layer_that_config_json_does_not_have_is_refused(model: Path, layer: int) -> None:
    add(model, f"model.layers.{layer}.mlp.up_proj.weight", "F32", np.zeros((96, 64), np.float32))
    refused(model, "num_hidden_layers is 2")


def test_a_bias_that_config_json_denies_is_refused(model: Path) -> None:
    add(model, "model.layers.0.self_attn.q_proj.bias", "F32", np.zeros(64, np.float32))
    refused(model, "is a bias, but .*attention_bias is not true")


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("F64", "<f8"), ("I8", "i1"), ("U8", "u1"), ("F8_E4M3", "u1"), ("F8_E5M2", "u1"), ("I32", "<i4"), ("BOOL", "u1"),
     ("I64", "<i8"), ("C64", "<c8")],
)  # fmt: skip
def test_a_dtype_that_llorch_does_not_run_is_refused(model: Path, dtype: str, kind: str) -> None:
    add(model, "model.layers.1.mlp.up_proj.weight", dtype, np.zeros((96, 64), kind))
    refused(model, rf"'model\.layers\.1\.mlp\.up_proj\.weight' has dtype {dtype}")


@pytest.mark.parametrize("shape", [(64, 96), (96 * 64,), (96, 64, 1), (95, 64), (0, 64), ()])
def test_a_shape_that_config_json_does_not_imply_is_refused(model: Path, shape: tuple[int, ...]) -> None:
    add(model, "model.layers.1.mlp.up_proj.weight", "F32", np.zeros(shape, np.float32))
    refused(
        model, r"up_proj\.weight' has shape .*, but .*config\.json implies \(96, 64\) \(intermediate_size"
    )


def test_a_missing_embedding_norm_or_head_is_named(model: Path) -> None:
    file = SafetensorsFile(model / "model.safetensors")
    tensors = {n: ("F32", file.raw(n).view("<f4").reshape(info.shape)) for n, info in file.infos.items()}
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
        write_safetensors(model / "new", {n: tensor for n, tensor in tensors.items() if n != name})
        os.replace(model / "new", model / "model.safetensors")
        refused(model, "missing", names="")
