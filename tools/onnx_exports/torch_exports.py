"""Exports by `torch.onnx`: both exporters, with and without past key values."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaForCausalLM

PROMPT_LENGTH = 5
PAST_LENGTH = 3


def causal_mask(mask: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """What is added to scores: (batch, 1, n, total), from a mask (batch, total) of the tokens that count."""
    lowest = torch.finfo(dtype).min
    total = mask.shape[1]
    later = torch.triu(torch.full((n, total), lowest, dtype=dtype), diagonal=total - n + 1)
    padded = (1.0 - mask[:, None, None, :].to(dtype)) * lowest
    return torch.clamp(later[None, None] + padded, min=lowest)


class WithoutPast(nn.Module):
    """Logits of token ids."""

    def __init__(self, model: LlamaForCausalLM, makes_mask: bool) -> None:
        super().__init__()
        self.model = model
        self.makes_mask = makes_mask

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of all positions."""
        if self.makes_mask:
            attention_mask = causal_mask(attention_mask, input_ids.shape[1], self.model.dtype)
        output: Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).logits
        return output


class WithPast(nn.Module):
    """Logits and grown caches, of token ids and caches that are passed as flat arguments."""

    def __init__(self, model: LlamaForCausalLM, makes_mask: bool) -> None:
        super().__init__()
        self.model = model
        self.makes_mask = makes_mask

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits, then the key and value of each layer."""
        if self.makes_mask:
            attention_mask = causal_mask(attention_mask, input_ids.shape[1], self.model.dtype)
        pairs = tuple(zip(past[::2], past[1::2], strict=True))
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=DynamicCache.from_legacy_cache(pairs),
            use_cache=True,
        )
        layers = output.past_key_values.to_legacy_cache()
        return (output.logits, *(value for layer in layers for value in layer))


def export(
    model: LlamaForCausalLM, path: Path, *, past: bool, dynamo: bool, opset: int, **options: Any
) -> None:
    """Write `path`.

    Args:
        model: what to export.
        path: the file to write.
        past: whether key values go in and out.
        dynamo: the exporter of PyTorch 2 instead of the one that traces TorchScript. Tracing cannot follow the masks
            of transformers, so the exported function makes its own.
        opset: version of ONNX's operations.
        options: of `torch.onnx.export`.
    """
    inputs, free = _inputs(model, past)
    names = list(free)
    given = [name for name in names if name in inputs]
    where: dict[str, Any]
    if dynamo:
        shapes = [dict.fromkeys(free[name], torch.export.Dim.DYNAMIC) for name in given]
        where = {
            "dynamic_shapes": (*shapes[:3], tuple(shapes[3:])) if past else tuple(shapes),
            "external_data": False,
            "verbose": False,
        }
    else:
        where = {"dynamic_axes": free}
    module = WithPast(model, not dynamo) if past else WithoutPast(model, not dynamo)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=given,
            output_names=[name for name in names if name not in inputs],
            opset_version=opset,
            dynamo=dynamo,
            **where,
            **options,
        )


def _inputs(model: LlamaForCausalLM, past: bool) -> tuple[dict[str, Tensor], dict[str, dict[int, str]]]:
    """Example inputs by name, and the free axes of all inputs and outputs by name, in order."""
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    n_past = PAST_LENGTH if past else 0
    inputs = {
        "input_ids": torch.arange(3, 3 + PROMPT_LENGTH)[None].repeat(2, 1),
        "attention_mask": torch.ones(2, n_past + PROMPT_LENGTH, dtype=torch.int64),
    }
    free = {
        "input_ids": {0: "batch", 1: "sequence"},
        "attention_mask": {0: "batch", 1: "total"},
    }
    if past:
        inputs["position_ids"] = torch.arange(n_past, n_past + PROMPT_LENGTH)[None].repeat(2, 1)
        free["position_ids"] = {0: "batch", 1: "sequence"}
    parts = (
        [f"{i}.{part}" for i in range(config.num_hidden_layers) for part in ("key", "value")] if past else []
    )
    for part in parts:
        shape = (2, config.num_key_value_heads, n_past, head_dim)
        inputs[f"past_key_values.{part}"] = torch.zeros(shape, dtype=model.dtype)
        free[f"past_key_values.{part}"] = {0: "batch", 2: "past"}
    free["logits"] = {0: "batch", 1: "sequence"}
    free |= {f"present.{part}": {0: "batch", 2: "total"} for part in parts}
    return inputs, free
