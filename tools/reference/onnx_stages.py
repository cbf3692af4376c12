"""Where the stages of a Llama model are in an ONNX graph, and their values from those of the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.formats.onnx.patterns.linear import Product, Rows
from llorch.formats.onnx.patterns.model import LlamaGraph
from llorch.formats.onnx.symbolic.constants import numbers_of
from llorch.formats.onnx.symbolic.values import Form, Matrix, Space, Term, Value

Floats = NDArray[np.float64]


def stages_of(space: Space, found: LlamaGraph) -> dict[str, Form]:
    """Forms of all stages by canonical name, in the shapes and the order of components that dumps have."""
    n = found.embedded.shape[-2]
    stages = {
        "inp_embd": found.embedded.flat(n, -1),
        "result_norm": found.normed.flat(n, -1),
        "result_output": _whole(found.head.term).flat(n, -1),
    }
    for i, layer in enumerate(found.layers):
        attention, rotation = layer.attention, layer.attention.rotation
        factor = math.sqrt(attention.scale * math.sqrt(attention.width))
        n_shared = attention.n_head // attention.n_head_kv
        queries, keys = attention.forms["Qcur_rope"], attention.forms["Kcur_rope"]
        turned = {
            "Qcur_rope": (queries, 1, factor / rotation.magnitude),
            "Kcur_rope": (keys, n_shared, factor / attention.key_rotation.magnitude),
        }
        of_layer = {
            "attn_norm": attention.input.flat(n, -1),
            "Qcur": _heads(attention.q, n, attention.n_head),
            "Kcur": _heads(attention.k, n, attention.n_head_kv),
            "Vcur": _heads(attention.v, n, attention.n_head_kv),
            **{name: _in_order(*how, rotation.order) for name, how in turned.items()},
            "kq": attention.forms["kq"]
            .flat(attention.n_head, n, -1)
            .scaled(np.array(math.sqrt(attention.width))),
            "kq_soft_max": attention.forms["kq_soft_max"].flat(attention.n_head, n, -1),
            "kqv_out": layer.attn_output.product.input.flat(n, -1),
            "attn_out": _whole(layer.attn_output.product.term).flat(n, -1),
            "ffn_inp": layer.after_attention.flat(n, -1),
            "ffn_norm": layer.feed_forward.input.flat(n, -1),
            "ffn_gate": layer.feed_forward.gate_form.flat(n, -1),
            "ffn_up": layer.feed_forward.up_form.flat(n, -1),
            "ffn_swiglu": layer.feed_forward.product.flat(n, -1),
            "ffn_out": _whole(layer.ffn_down.product.term).flat(n, -1),
            "l_out": layer.after.flat(n, -1),
        }
        stages |= {f"{name}-{i}": form for name, form in of_layer.items()}
    return stages


def _whole(term: Term) -> Form:
    return Form(np.arange(term.first, term.end).reshape(1, *term.shape))


def _in_order(form: Form, step: int, by: float, order: NDArray[np.int64]) -> Form:
    """Every `step`-th head of (heads, tokens, width), scaled, components in another order: (tokens, heads, width)."""
    moved = form.moved(lambda part: part[::step][..., order].swapaxes(0, 1))
    return moved.scaled(np.array(by))


def _heads(weight: Rows, n: int, n_heads: int) -> Form:
    product: Product = weight.product
    index = product.term.first + np.arange(n)[:, None] * product.n_out + weight.rows
    return Form(index.reshape(1, n, n_heads, -1))


@dataclass(slots=True)
class Values:
    """Numbers of activations: as the graph gave them, or computed from those where one node computes several.

    Attributes:
        space: the activations.
        given: outputs of the graph by name.
    """

    space: Space
    given: Mapping[str, NDArray[Any]]

    def of(self, form: Form) -> NDArray[np.float32]:
        """The numbers of a form."""
        total = np.zeros(form.shape)
        factors = form.factors
        for first in self.space.touched(form):
            term = self.space.term_of(first)
            is_here = (form.index >= term.first) & (form.index < term.end)
            numbers = self._of_term(term).ravel()[np.where(is_here, form.index - term.first, 0)]
            total += (np.where(is_here, factors, 0.0) * numbers).sum(0)
        return np.ascontiguousarray(total, np.float32)

    def _of_term(self, term: Term) -> Floats:
        if term.value in self.given:
            return np.asarray(self.given[term.value], np.float64)
        operands = [self._of_value(operand) for operand in term.operands]
        return _COMPUTED[term.op](term, *operands)

    def _of_value(self, value: Value) -> Floats:
        if isinstance(value, Form):
            return np.asarray(self.of(value), np.float64)
        if isinstance(value, Matrix):
            numbers = numbers_of(value.tensor)
            return np.asarray(numbers.T if value.is_flipped else numbers, np.float64)
        return np.asarray(value, np.float64)


def _softmax(term: Term, x: Floats) -> Floats:
    shares = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True))


_COMPUTED: Mapping[str, Any] = {
    "Add": lambda term, a, b: a + b,
    "Linear": lambda term, x, weight: x @ weight,
    "MatMul": lambda term, a, b: a @ b,
    "Mean": lambda term, x: x.mean(-1).reshape(term.shape),
    "Mul": lambda term, a, b: a * b,
    "Reciprocal": lambda term, x: 1.0 / x,
    "RmsNorm": lambda term, x: x / np.sqrt((x * x).mean(-1, keepdims=True) + term.constant),
    "Sigmoid": lambda term, x: 1.0 / (1.0 + np.exp(-x)),
    "Softmax": _softmax,
    "Sqrt": lambda term, x: np.sqrt(x),
}
