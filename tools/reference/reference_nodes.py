"""Stages among the nodes of llama.cpp's graph, recognised by op and by the weight that feeds them.

Node names alone are ambiguous: ``Qcur-0`` names the projection, its reshape and the rotated tensor. The weight
is found behind a node's sources, through reshapes, views and row selections.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.reference.ggml_tensor import GgmlLibrary, GgmlTensor, ReferenceToolError

LAYER_STAGES = (
    "attn_norm",
    "Qcur",
    "Kcur",
    "Vcur",
    "Qcur_rope",
    "Kcur_rope",
    "kq",
    "kq_soft_max",
    "kqv_out",
    "attn_out",
    "ffn_inp",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_swiglu",
    "ffn_out",
    "l_out",
)
"""Stages of one layer, in the order of the computation; dumped as ``"<stage>-<layer>"``."""
GLOBAL_STAGES = ("inp_embd", "result_norm", "result_output")

_PRODUCTS = {
    "attn_q": "Qcur",
    "attn_k": "Kcur",
    "attn_v": "Vcur",
    "attn_output": "attn_out",
    "ffn_gate": "ffn_gate",
    "ffn_up": "ffn_up",
    "ffn_down": "ffn_out",
}
_ROTATED = {"attn_q": "Qcur_rope", "attn_k": "Kcur_rope"}
_SUMS = {"attn_output": "ffn_inp", "ffn_down": "l_out"}
_SEE_THROUGH = frozenset({"RESHAPE", "VIEW", "PERMUTE", "TRANSPOSE", "CONT", "GET_ROWS"})
_LAYER_WEIGHT = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
_BIAS = ".bias"
_CACHE = re.compile(r"cache_([kv])_l(\d+)")


@dataclass(frozen=True)
class Stage:
    """One recognised node.

    Attributes:
        name: canonical name, e.g. ``"Qcur_rope-0"``.
        node: llama.cpp's own name of the node, e.g. ``"Qcur-0"``.
        op: its op, e.g. ``"ROPE"``.
        source: weight (or KV cache tensor) it was recognised by, e.g. ``"blk.0.attn_q.weight"``.
        source_type: element type of that tensor, e.g. ``"q8_0"``.
    """

    name: str
    node: str
    op: str
    source: str
    source_type: str


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model, in GGUF words; they fix the shape of every stage."""

    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int
    n_vocab: int

    def shape(self, stage: str, n: int, n_kv: int) -> tuple[int, ...]:
        """Shape of a stage for a pass of `n` tokens, after which the cache holds `n_kv`."""
        heads, heads_kv = (n, self.n_head, self.head_dim), (n, self.n_head_kv, self.head_dim)
        return {
            "Qcur": heads,
            "Qcur_rope": heads,
            "Kcur": heads_kv,
            "Kcur_rope": heads_kv,
            "Vcur": heads_kv,
            "kq": (self.n_head, n, n_kv),
            "kq_soft_max": (self.n_head, n, n_kv),
            "kqv_out": (n, self.n_head * self.head_dim),
            "ffn_gate": (n, self.n_ff),
            "ffn_up": (n, self.n_ff),
            "ffn_swiglu": (n, self.n_ff),
            "result_output": (n, self.n_vocab),
        }.get(stage, (n, self.n_embd))


class NodeReader:
    """Recognises stages in the graph and reads them in canonical shape.

    Args:
        ggml: reads nodes.
        sizes: of the model.
        tensors: names of the file's tensors. Where a product has a bias, its stage is the sum, not the product.
    """

    def __init__(self, ggml: GgmlLibrary, sizes: Sizes, tensors: Collection[str] = ()) -> None:
        self.ggml = ggml
        self.sizes = sizes
        self._biases = frozenset(name for name in tensors if name.endswith(_BIAS))

    def recognise(self, tensor: GgmlTensor) -> Stage | None:
        """The stage that this node computes, or None."""
        op = self.ggml.op_name(tensor)
        found = self._by_op(tensor, op)
        if found is None:
            return None
        name, source = found
        node = tensor.name.decode(errors="replace")
        return Stage(name, node, op, _root_name(source), self.ggml.type_name(source))

    def _by_op(self, tensor: GgmlTensor, op: str) -> tuple[str, GgmlTensor] | None:
        """Canonical name, and the weight by which the node was recognised."""
        if op == "MUL_MAT":
            return self._product(tensor)
        if op == "MUL":
            return _norm(tensor)
        if op == "GET_ROWS":
            return (
                ("inp_embd", _src(tensor, 0)) if _root_name(_src(tensor, 0)) == "token_embd.weight" else None
            )
        if op == "ADD":
            return self._sum(tensor)
        if op not in ("ROPE", "SOFT_MAX", "CONT", "GLU"):
            return None
        product = self._behind(_src(tensor, 0))
        if self.ggml.op_name(product) != "MUL_MAT":
            return None
        weight = _src(product, 0)
        layer = _LAYER_WEIGHT.fullmatch(_root_name(weight))
        cache = _CACHE.fullmatch(_root_name(weight))
        if op == "ROPE" and layer and layer[2] in _ROTATED:
            return f"{_ROTATED[layer[2]]}-{layer[1]}", weight
        if op == "GLU" and layer and layer[2] == "ffn_gate":
            return f"ffn_swiglu-{layer[1]}", weight
        if op == "SOFT_MAX" and cache and cache[1] == "k":
            return f"kq_soft_max-{cache[2]}", weight
        if op == "CONT" and cache and cache[1] == "v":
            return f"kqv_out-{cache[2]}", weight
        return None

    def _product(self, tensor: GgmlTensor) -> tuple[str, GgmlTensor] | None:
        weight = _src(tensor, 0)
        name = _root_name(weight)
        if name in ("output.weight", "token_embd.weight"):
            return "result_output", weight
        if (layer := _LAYER_WEIGHT.fullmatch(name)) and layer[2] in _PRODUCTS:
            has_bias = f"blk.{layer[1]}.{layer[2]}{_BIAS}" in self._biases
            return None if has_bias else (f"{_PRODUCTS[layer[2]]}-{layer[1]}", weight)
        if (cache := _CACHE.fullmatch(name)) and cache[1] == "k":
            return f"kq-{cache[2]}", weight
        return None

    def _sum(self, tensor: GgmlTensor) -> tuple[str, GgmlTensor] | None:
        stages = _PRODUCTS if self._adds_bias(tensor) else _SUMS
        for operand in (_src(tensor, 0), _src(tensor, 1)):
            product = self._behind(operand)
            if self.ggml.op_name(product) == "MUL_MAT":
                weight = _src(product, 0)
                layer = _LAYER_WEIGHT.fullmatch(_root_name(weight))
                if layer and layer[2] in stages:
                    return f"{stages[layer[2]]}-{layer[1]}", weight
        return None

    def _adds_bias(self, tensor: GgmlTensor) -> bool:
        return self.ggml.op_name(tensor) == "ADD" and _root_name(_src(tensor, 1)).endswith(_BIAS)

    def _behind(self, tensor: GgmlTensor) -> GgmlTensor:
        """Walk back through ops that only move or select values, and through the addition of a bias."""
        while self.ggml.op_name(tensor) in _SEE_THROUGH or self._adds_bias(tensor):
            tensor = _src(tensor, 0)
        return tensor

    def read(self, tensor: GgmlTensor, name: str, n: int, n_kv: int) -> NDArray[np.float32]:
        """Copy a computed stage in canonical shape.

        Args:
            tensor: the computed node.
            name: canonical name, with the layer.
            n: tokens of this pass.
            n_kv: tokens in the cache after it; llama.cpp's padding of the scores is cut off.

        Raises:
            ReferenceToolError: type, layout or size is not the expected one.
        """
        values = self.ggml.read_f32(tensor)
        stage = name.partition("-")[0]
        expected = self.sizes.shape(stage, n, n_kv)
        if stage in ("kq", "kq_soft_max"):
            if values.ndim == 2:  # a single head: its leading 1 was dropped
                values = values[None]
            if values.ndim == 3 and values.shape[2] >= n_kv:
                values = values[:, :, :n_kv]
        elif values.size == np.prod(expected):
            values = values.reshape(expected)
        if values.shape != expected:
            raise ReferenceToolError(f"node {name} has shape {values.shape}, expected {expected}")
        if not np.isfinite(values).all():
            raise ReferenceToolError(f"node {name} holds NaN or infinity")
        return np.ascontiguousarray(values)


def _src(tensor: GgmlTensor, i: int) -> GgmlTensor:
    """Source `i`, which must exist."""
    if not tensor.src[i]:
        raise ReferenceToolError(f"node {tensor.name.decode(errors='replace')} has no source {i}")
    source: GgmlTensor = tensor.src[i].contents
    return source


def _root_name(tensor: GgmlTensor) -> str:
    """Name of the tensor that owns the memory; for a view, the weight or cache it shows."""
    owner = tensor.view_src.contents if tensor.view_src else tensor
    name: bytes = owner.name
    return name.decode(errors="replace")


def _norm(tensor: GgmlTensor) -> tuple[str, GgmlTensor] | None:
    """An RMSNorm ends in the multiplication by its weight."""
    for operand in (_src(tensor, 0), _src(tensor, 1)):
        name = _root_name(operand)
        if name == "output_norm.weight":
            return "result_norm", operand
        if (layer := _LAYER_WEIGHT.fullmatch(name)) and layer[2] in ("attn_norm", "ffn_norm"):
            return f"{layer[2]}-{layer[1]}", operand
    return None
