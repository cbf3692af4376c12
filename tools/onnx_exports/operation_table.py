#!/usr/bin/env python3
"""One table of what an exported Llama computes, operation by operation, layer by layer and end to end.

    python -m tools.onnx_exports.operation_table -m MODEL.onnx --variant VARIANT

Each operation is given its input from llorch's run of the graph (and, in the other column, from onnxruntime's), is
computed by PyTorch in float64, and its output is compared. Layers and logits are those of the whole PyTorch model
that was exported. Exit code 1 if a difference is larger than its tolerance. Needs torch, transformers, onnx and
onnxruntime.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from llorch.conversation import Conversation
from llorch.observe.probe import Recorder
from llorch.open_model import open_model
from tools.onnx_exports.onnxruntime_logits import PROMPT
from tools.onnx_exports.tiny_llama import VARIANTS, tiny_llama

Stages = dict[str, NDArray[Any]]

TOLERANCES = {"operation": 5e-6, "layer": 1e-5, "model": 1e-5}
"""Of the largest value: one float32 operation; all those before the end of a layer, or before the logits."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        scope: ``"operation"``, ``"layer"`` or ``"model"``.
        name: what is compared.
        expected: PyTorch's values for a run's stages.
        found: the stage of that run.
    """

    scope: str
    name: str
    expected: Callable[[Stages], NDArray[Any]]
    found: Callable[[Stages], NDArray[Any]]


def llorchs_stages(path: Path) -> Stages:
    """Every stage of llorch's own run of the graph."""
    recorder = Recorder()
    with open_model(path, with_tokenizer=False, n_threads=1, kv_type="f32") as model:
        Conversation(model.llama, 64, kv_type="f32").feed(list(PROMPT), all_rows=True, probe=recorder)
    return {name: np.asarray(value, np.float64) for name, value in recorder.values.items()}


def onnxruntimes_stages(path: Path) -> Stages:
    """Every stage of onnxruntime's run of the graph."""
    from tools.reference.onnxruntime_recording import record

    run = record(path, list(PROMPT), n_decode=0)
    arrays = run.recording.arrays.items()
    return {key.removeprefix("prefill/"): np.asarray(value, np.float64) for key, value in arrays}


def rows_of(model: Any) -> Iterator[Row]:
    """All comparisons with a model of PyTorch, in float64."""
    config, n = model.config, len(PROMPT)
    seen = np.tril(np.ones((n, n), bool))
    with torch.no_grad():
        output = model(torch.tensor([PROMPT]), output_hidden_states=True)
    for i, layer in enumerate(model.model.layers):
        weight = layer.input_layernorm.weight
        before = "inp_embd" if i == 0 else f"l_out-{i - 1}"
        yield Row(
            "operation",
            f"RMSNorm, layer {i}",
            lambda s, w=weight, b=before: (
                functional.rms_norm(  # type: ignore[misc]
                    torch.tensor(s[b]), w.shape, w, config.rms_norm_eps
                )
                .detach()
                .numpy()
            ),
            lambda s, i=i: s[f"attn_norm-{i}"],  # type: ignore[misc]
        )
        for part in "QK":
            yield Row(
                "operation",
                f"RoPE of {part}, layer {i}",
                lambda s, i=i, p=part: _rotated(model, s[f"{p}cur-{i}"]),  # type: ignore[misc]
                lambda s, i=i, p=part: s[f"{p}cur_rope-{i}"],  # type: ignore[misc]
            )
        yield Row(
            "operation",
            f"mask: shares of later tokens, layer {i}",
            lambda s: np.zeros(1),
            lambda s, i=i: s[f"kq_soft_max-{i}"][:, ~seen],  # type: ignore[misc]
        )
        yield Row(
            "operation",
            f"Softmax of masked scores, layer {i}",
            lambda s, i=i: _shares(model, s[f"kq-{i}"], seen),  # type: ignore[misc]
            lambda s, i=i: s[f"kq_soft_max-{i}"],  # type: ignore[misc]
        )
        yield Row(
            "operation",
            f"SwiGLU, layer {i}",
            lambda s, i=i: (  # type: ignore[misc]
                functional.silu(torch.tensor(s[f"ffn_gate-{i}"])) * torch.tensor(s[f"ffn_up-{i}"])
            ).numpy(),
            lambda s, i=i: s[f"ffn_swiglu-{i}"],  # type: ignore[misc]
        )
    last = len(model.model.layers) - 1
    for i in range(last):
        hidden = output.hidden_states[i + 1][0].numpy()
        yield Row("layer", f"output of layer {i}", lambda s, h=hidden: h, lambda s, i=i: s[f"l_out-{i}"])  # type: ignore[misc]
    normed = output.hidden_states[-1][0].numpy()
    yield Row("layer", f"output of layer {last}, normed", lambda s: normed, lambda s: s["result_norm"])
    yield Row("model", "logits", lambda s: output.logits[0].numpy(), lambda s: s["result_output"])


def _rotated(model: Any, heads: NDArray[Any]) -> NDArray[Any]:
    """RoPE by transformers of (tokens, heads, width) in GGUF's order of components."""
    n, n_heads, width = heads.shape
    halves = torch.tensor(heads.reshape(n, n_heads, -1, 2).swapaxes(-1, -2).reshape(heads.shape))
    cos, sin = model.model.rotary_emb(halves, torch.arange(n)[None])
    turned, _ = apply_rotary_pos_emb(halves.transpose(0, 1)[None], halves.transpose(0, 1)[None], cos, sin)
    back: NDArray[Any] = turned[0].transpose(0, 1).numpy()
    return back.reshape(n, n_heads, 2, -1).swapaxes(-1, -2).reshape(n, n_heads, width)


def _shares(model: Any, scores: NDArray[Any], seen: NDArray[np.bool_]) -> NDArray[Any]:
    masked = torch.tensor(scores * model.model.layers[0].self_attn.scaling).masked_fill(
        ~torch.tensor(seen), -torch.inf
    )
    shares: NDArray[Any] = masked.softmax(-1).numpy()
    return shares


def difference(row: Row, stages: Stages) -> float:
    """Largest difference, relative to the largest expected value (1 where that is 0)."""
    expected, found = row.expected(stages), row.found(stages)
    return float(np.abs(expected - found).max() / (np.abs(expected).max() or 1.0))


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 if a difference is too large."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True, type=Path, help="ONNX graph, weights in float32")
    parser.add_argument("--variant", required=True, choices=sorted(VARIANTS), help="what was exported")
    args = parser.parse_args(argv)
    runs = {"llorch": llorchs_stages(args.model), "onnxruntime": onnxruntimes_stages(args.model)}
    print("| compared with PyTorch in float64 | llorch | onnxruntime | tolerance | verdict |")
    print("|---|---|---|---|---|")
    passed = True
    for row in rows_of(tiny_llama(args.variant).double()):
        found = {name: difference(row, stages) for name, stages in runs.items()}
        tolerance = TOLERANCES[row.scope]
        verdict = found["llorch"] <= tolerance
        passed &= verdict
        numbers = " | ".join(f"{value:.1e}" for value in found.values())
        print(f"| {row.name} | {numbers} | {tolerance:g} | {'pass' if verdict else 'FAIL'} |")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
