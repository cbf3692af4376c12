"""A Llama model recognised in an ONNX graph, by what the graph computes and not by the names in it.

The graph is run for a few token ids (`symbolic`), and what stands before the logits is compared with Llama
(`patterns`): twice, with other numbers of tokens and, where it takes past keys and values, with some.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from llorch.errors import OnnxError
from llorch.formats.onnx.graph import Graph
from llorch.formats.onnx.patterns.frequencies import rope_keys, sharpened
from llorch.formats.onnx.patterns.linear import matrix_tensor, vector_tensor
from llorch.formats.onnx.patterns.model import LlamaGraph, find_llama
from llorch.formats.onnx.patterns.refusal import unlike_llama
from llorch.formats.onnx.patterns.tied import is_tied
from llorch.formats.onnx.symbolic.evaluation import Evaluation, Probe
from llorch.formats.onnx.symbolic.values import Form
from llorch.formats.protocol import MetadataValue
from llorch.quant.tensor import Tensor

_FALLBACK_CONTEXT = 2048
"""Positions of a model whose graph has no table that says it."""
_SCALE_TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
"""Of the factor on scores, by the type of the weights, to which it may be rounded."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a graph holds, in GGUF's words.

    Attributes:
        metadata: ``general.architecture`` and ``llama.*``.
        tensors: by GGUF name, in the memory of the graph's files.
    """

    metadata: dict[str, MetadataValue]
    tensors: dict[str, Tensor]


def recognise(graph: Graph, label: str) -> Recognised:
    """The Llama model that a graph computes.

    Args:
        graph: what the file holds.
        label: of the file, for messages.

    Raises:
        OnnxError: it is another model, quantised, or not whole; the message names the node.
    """
    try:
        run = Evaluation(graph, Probe(np.array([[3, 2, 1]])))
        found = find_in(run, None)
        takes_past = any(term.op == "Past" for term in run.space.terms)
        width = found.layers[0].attention.width
        again = Evaluation(
            graph, Probe(np.array([[2]]), 4, width) if takes_past else Probe(np.array([[1, 3, 0, 2]]))
        )
        _require_same(found, find_in(again, found))
        metadata, tensors = _described(found, run)
    except OnnxError as error:
        raise OnnxError(f"{label}: {error}") from error
    except (ValueError, LookupError, TypeError, ArithmeticError, AssertionError) as error:
        raise OnnxError(
            f"{label}: its operations do not fit together as those of a Llama model do ({error})"
        ) from error
    return Recognised(metadata, tensors)


def find_in(run: Evaluation, known: LlamaGraph | None) -> LlamaGraph:
    """The model among the activations of a run; its first output that is not a past are the logits."""
    logits = next((value for name, value in run.values.items() if "logits" in name), None)
    if logits is None:
        logits = next(iter(run.values.values()), None)
    if not isinstance(logits, Form):
        raise OnnxError("the graph has no output that depends on its weights, expected logits")
    found = find_llama(run.space, logits, run.probe, known)
    _explain_outputs(run, logits, found)
    return found


def _explain_outputs(run: Evaluation, logits: Form, found: LlamaGraph) -> None:
    """Refuse outputs beside the logits that are no keys and values of the layers."""
    caches = {layer.attention.k.product.term.first for layer in found.layers}
    caches |= {layer.attention.v.product.term.first for layer in found.layers}
    for name, value in run.values.items():
        if value is logits or not isinstance(value, Form):
            continue
        touched = {first for first in run.space.touched(value) if run.space.term_of(first).op != "Past"}
        if not touched <= caches:
            error = unlike_llama(run.space, value, "keys or values of a layer")
            raise OnnxError(f"output {name!r}: {error}")


def _require_same(a: LlamaGraph, b: LlamaGraph) -> None:
    """Refuse a graph that is another model when there are more tokens or a past."""

    def weights(model: LlamaGraph) -> list[object]:
        rows = [
            rows
            for layer in model.layers
            for rows in (
                *(layer.attention.q, layer.attention.k, layer.attention.v, layer.attn_output),
                *(layer.feed_forward.gate, layer.feed_forward.up, layer.ffn_down),
            )
        ]
        return [(row.product.matrix.tensor.name, row.rows.tobytes()) for row in rows]

    if weights(a) != weights(b):
        raise OnnxError("the graph uses other weights when there are more tokens, or some in the past")


def _described(found: LlamaGraph, run: Evaluation) -> tuple[dict[str, MetadataValue], dict[str, Tensor]]:
    first = found.layers[0]
    attention = first.attention
    n_vocab, n_embd = found.embedding.shape
    epsilon = _epsilon(found)
    _require_alike(found)
    attn_factor = math.sqrt(attention.scale * math.sqrt(attention.width))
    frequencies = sharpened(attention.rotation.frequencies, run.tables[:1], _table_magnitude(run))
    n_positions = len(run.tables[0][0]) if run.tables else 0
    keys, divisors = rope_keys(frequencies, 2e-3 / n_positions if n_positions else 0.0)
    if abs(attn_factor - 1.0) <= _SCALE_TOLERANCE.get(found.embedding.tensor.dtype, 0.0):
        attn_factor = 1.0
    elif divisors is None:
        raise OnnxError(
            f"attention multiplies scores with {attention.scale:.6g}, expected 1/sqrt({attention.width}) = "
            f"{1 / math.sqrt(attention.width):.6g}"
        )
    else:
        keys["llama.rope.scaling.attn_factor"] = attn_factor
    metadata: dict[str, MetadataValue] = {
        "general.architecture": "llama",
        "llama.vocab_size": n_vocab,
        "llama.context_length": n_positions or _FALLBACK_CONTEXT,
        "llama.embedding_length": n_embd,
        "llama.block_count": len(found.layers),
        "llama.feed_forward_length": len(first.feed_forward.gate.rows),
        "llama.attention.head_count": attention.n_head,
        "llama.attention.head_count_kv": attention.n_head_kv,
        "llama.attention.key_length": attention.width,
        "llama.attention.value_length": attention.width,
        "llama.rope.dimension_count": 2 * len(frequencies),
        "llama.attention.layer_norm_rms_epsilon": epsilon,
        **keys,
    }
    if "llama.rope.scaling.factor" in keys:
        metadata["llama.rope.scaling.type"] = "linear"
    tensors = _tensors(found)
    if divisors is not None:
        tensors["rope_freqs.weight"] = vector_tensor("rope_freqs.weight", divisors)
    return metadata, tensors


def _table_magnitude(run: Evaluation) -> float:
    """What RoPE's table is multiplied with: its cosines at position 0."""
    return float(run.tables[0][0][0, 0]) if run.tables and run.tables[0][0].size else 1.0


def _epsilon(found: LlamaGraph) -> float:
    norms = [norm for layer in found.layers for norm in (layer.attn_norm, layer.ffn_norm)]
    by_value = {norm.epsilon for norm in (*norms, found.output_norm)}
    if len(by_value) > 1:
        raise OnnxError(f"its norms have different epsilons, {', '.join(f'{e:g}' for e in sorted(by_value))}")
    return by_value.pop()


def _require_alike(found: LlamaGraph) -> None:
    """Refuse layers of different sizes, scales or frequencies."""
    first = found.layers[0]
    for i, layer in enumerate(found.layers):
        one, other = first.attention, layer.attention
        for what, a, b in (
            ("heads", one.n_head, other.n_head),
            ("heads of keys and values", one.n_head_kv, other.n_head_kv),
            ("components of a head", one.width, other.width),
            (
                "width of the feed-forward network",
                len(first.feed_forward.gate.rows),
                len(layer.feed_forward.gate.rows),
            ),
            ("factor on scores", round(one.scale, 9), round(other.scale, 9)),
        ):
            if a != b:
                raise OnnxError(f"{what}: {b} in layer {i}, but {a} in layer 0")
        if not np.allclose(one.rotation.frequencies, other.rotation.frequencies, rtol=1e-6):
            raise OnnxError(f"the frequencies of RoPE in layer {i} are not those of layer 0")


def _tensors(found: LlamaGraph) -> dict[str, Tensor]:
    tensors = {"token_embd.weight": matrix_tensor("token_embd.weight", found.embedding.flipped())}
    for i, layer in enumerate(found.layers):
        attention, feed_forward = layer.attention, layer.feed_forward
        for name, norm in (("attn_norm", layer.attn_norm), ("ffn_norm", layer.ffn_norm)):
            tensors[f"blk.{i}.{name}.weight"] = vector_tensor(f"blk.{i}.{name}.weight", norm.weight)
        for name, rows in (
            ("attn_q", attention.q),
            ("attn_k", attention.k),
            ("attn_v", attention.v),
            ("attn_output", layer.attn_output),
            ("ffn_gate", feed_forward.gate),
            ("ffn_up", feed_forward.up),
            ("ffn_down", layer.ffn_down),
        ):
            tensors |= rows.tensors(f"blk.{i}.{name}")
    tensors["output_norm.weight"] = vector_tensor("output_norm.weight", found.output_norm.weight)
    if found.head.bias is not None:
        raise OnnxError(f"{found.head.term.node.label}: adds a bias to the logits, which Llama does not have")
    if not is_tied(found.embedding, found.head.matrix):
        tensors["output.weight"] = matrix_tensor("output.weight", found.head.matrix)
    return tensors
