"""Operations that stand for several: norms, rotations and whole attentions, written out in plain ones.

Source: https://onnx.ai/onnx/operators/ (RMSNormalization, RotaryEmbedding, Attention) and
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from llorch.errors import OnnxError
from llorch.formats.onnx.graph import Node
from llorch.formats.onnx.symbolic.activations import added, computed_by, multiplied
from llorch.formats.onnx.symbolic.moves import integer
from llorch.formats.onnx.symbolic.values import Form, Numbers, Space, inside, joined, summed

if TYPE_CHECKING:
    from llorch.formats.onnx.symbolic.evaluation import Evaluation

NOT_ATTENDED = -np.inf


def _given(inputs: list[Any], position: int) -> Any:
    return inputs[position] if position < len(inputs) else None


def _refuse_others(node: Node, **expected: Any) -> None:
    """Refuse attributes with which the operation is another one."""
    for name, value in expected.items():
        if (found := node.attributes.get(name, value)) != value:
            raise OnnxError(f"{node.label}: {name} is {found}, expected {value}")


def _normed(space: Space, node: Node, form: Form, scale: Numbers, default_epsilon: float) -> Form:
    epsilon = node.attributes.get("epsilon", default_epsilon)
    if not isinstance(epsilon, float):
        raise TypeError("epsilon is no number")
    if integer(node, "axis", -1) % len(form.shape) != len(form.shape) - 1:
        raise OnnxError(f"{node.label}: normalises another axis than the last")
    return computed_by(space, "RmsNorm", inside(node), form, constant=epsilon).scaled(scale)


def _norm(run: Evaluation, node: Node, inputs: list[Any]) -> list[Any]:
    return [_normed(run.space, node, inputs[0], inputs[1], 1e-5)]


def _skip_norm(run: Evaluation, node: Node, inputs: list[Any]) -> list[Any]:
    whole = replace(node, outputs=(*node.outputs[3:4], ""))
    bias = _given(inputs, 3)
    total = added(run.space, whole if bias is None else inside(node), inputs[:2])
    if bias is not None:
        total = added(run.space, whole, [total, bias])
    return [_normed(run.space, node, total, inputs[2], 1e-12), None, None, total]


def heads_first(form: Form, n_heads: int) -> Form:
    """(1, tokens, heads * width) or (1, heads, tokens, width) as (heads, tokens, width)."""
    if len(form.shape) == 4:
        return form.flat(*form.shape[1:])
    _, n, width = form.shape
    return form.flat(n, n_heads, width // n_heads).moved(lambda part: part.swapaxes(0, 1))


def rotated(form: Form, cos: Numbers, sin: Numbers, is_interleaved: bool) -> Form:
    """RoPE of (heads, tokens, width) by tables (tokens, pairs); components beyond the pairs stay."""
    n_rot = 2 * cos.shape[-1]
    if is_interleaved:
        a, b = (form.moved(lambda part, i=i: part[..., i:n_rot:2]) for i in (0, 1))  # type: ignore[misc]
    else:
        half = n_rot // 2
        a, b = (form.moved(lambda part, i=i: part[..., i : i + half]) for i in (0, half))  # type: ignore[misc]
    pair = [summed(a.scaled(cos), b.scaled(-sin)), summed(b.scaled(cos), a.scaled(sin))]
    if is_interleaved:
        wide = [part.moved(lambda numbers: numbers[..., None]) for part in pair]
        both = joined(wide, -1)
        turned = both.flat(*both.shape[:-2], n_rot)
    else:
        turned = joined(pair, -1)
    rest = form.moved(lambda part: part[..., n_rot:])
    return turned if not rest.index.size else joined([turned, rest], -1)


def _rotary(run: Evaluation, node: Node, inputs: list[Any]) -> list[Any]:
    _refuse_others(node, scale=1.0, is_packed_batching=0)
    if node.domain:
        form, positions, cos, sin = inputs
    else:
        form, cos, sin, positions = (_given(inputs, i) for i in range(4))
    width = integer(node, "rotary_embedding_dim", 0) or 2 * cos.shape[-1]
    n_heads = integer(node, "num_heads", 0) or (form.shape[-1] // width if len(form.shape) == 3 else 0)
    if positions is None:
        cos, sin = (table.reshape(table.shape[-2:]) for table in (cos, sin))
    else:
        n = form.shape[-2]
        first = int(positions.ravel()[0])
        run.tables.append((cos, sin))
        places = np.arange(first, first + n) if positions.size == 1 else positions.ravel()
        cos, sin = cos[places], sin[places]
    turned = rotated(heads_first(form, n_heads), cos, sin, bool(integer(node, "interleaved", 0)))
    if len(form.shape) == 3:
        turned = turned.moved(lambda part: part.swapaxes(0, 1))
    return [turned.flat(*form.shape)]


def _attend(
    run: Evaluation, node: Node, q: Form, k: Form, v: Form, mask: Numbers | None, scale: float | None
) -> Form:
    """(heads, tokens, width) of q, and of k and v with fewer heads: (heads, tokens, width)."""
    inner = inside(node)
    n_shared = q.shape[0] // k.shape[0]
    keys, values = (form.moved(lambda part: np.repeat(part, n_shared, 0)) for form in (k, v))
    width = q.shape[-1]
    keys = keys.moved(lambda part: part.swapaxes(-1, -2))
    shape = (q.shape[0], q.shape[1], k.shape[1])
    scores = run.space.add("MatMul", (q, keys), shape, inner)
    scores = scores.scaled(np.array(scale or 1.0 / np.sqrt(width)))
    if mask is not None:
        scores = added(run.space, inner, [scores, mask])
    shares = computed_by(run.space, "Softmax", inner, scores)
    return run.space.add("MatMul", (shares, values), (*shape[:2], v.shape[-1]), inner)


def _causal(run: Evaluation) -> Numbers:
    n_past, n_kv = run.probe.n_past, run.probe.n_kv
    return np.where(np.arange(n_kv) <= np.arange(n_past, n_kv)[:, None], 0.0, NOT_ATTENDED)


def _with_past(past: Any, new: Form) -> Form:
    return new if past is None or not past.index.size else joined([past.flat(*past.shape[1:]), new], 1)


def _grouped(run: Evaluation, node: Node, inputs: list[Any]) -> list[Any]:
    """GroupQueryAttention; the lengths it gets are those of the attention mask, which the probe sets to 1."""
    _refuse_others(
        node, local_window_size=-1, softcap=0.0, smooth_softmax=0, k_quant_type="NONE", v_quant_type="NONE"
    )
    if any(value is not None for value in inputs[10:]):
        raise OnnxError(
            f"{node.label}: has inputs after the positions (bias, sinks), which Llama does not have"
        )
    n_head, n_kv_head = integer(node, "num_heads", 1), integer(node, "kv_num_heads", 1)
    query, key, value, past_key, past_value = inputs[:5]
    if key is None:
        width = query.shape[-1] // (n_head + 2 * n_kv_head)
        ends = np.cumsum([0, n_head * width, n_kv_head * width, n_kv_head * width]).tolist()
        query, key, value = (
            query.moved(lambda part, i=i: part[..., ends[i] : ends[i + 1]]) for i in range(3)
        )
    q, k, v = heads_first(query, n_head), heads_first(key, n_kv_head), heads_first(value, n_kv_head)
    if integer(node, "do_rotary", 0):
        cos, sin = inputs[7], inputs[8]
        run.tables.append((cos, sin))
        here = slice(run.probe.n_past, run.probe.n_kv)
        interleaved = bool(integer(node, "rotary_interleaved", 0))
        q, k = (rotated(form, cos[here], sin[here], interleaved) for form in (q, k))
    k, v = _with_past(past_key, k), _with_past(past_value, v)
    result = _attend(run, node, q, k, v, _causal(run), _scale(node))
    return [_tokens_first(result), k.flat(1, *k.shape), v.flat(1, *v.shape)]


def _scale(node: Node) -> float | None:
    value = node.attributes.get("scale", 0.0)
    if not isinstance(value, (int, float)):
        raise TypeError("scale is no number")
    return float(value) or None


def _tokens_first(form: Form) -> Form:
    n_heads, n, width = form.shape
    return form.moved(lambda part: part.swapaxes(0, 1)).flat(1, n, n_heads * width)


def _multi_head(run: Evaluation, node: Node, inputs: list[Any]) -> list[Any]:
    if _given(inputs, 3) is not None or _given(inputs, 4) is not None:
        raise OnnxError(f"{node.label}: has a bias or a key padding mask, expected an attention bias only")
    n_head = integer(node, "num_heads", 1)
    q, k, v = (heads_first(form, n_head) for form in inputs[:3])
    k, v = _with_past(_given(inputs, 6), k), _with_past(_given(inputs, 7), v)
    mask = _given(inputs, 5)
    if integer(node, "unidirectional", 0):
        mask = _causal(run) if mask is None else mask + _causal(run)
    mask = None if mask is None else mask.reshape(mask.shape[-3:])
    result = _attend(run, node, q, k, v, mask, _scale(node))
    return [_tokens_first(result), k.flat(1, *k.shape), v.flat(1, *v.shape)]


def _attention(run: Evaluation, node: Node, inputs: list[Any]) -> list[Any]:
    """ONNX's own Attention."""
    if node.domain:
        raise OnnxError(f"{node.label}: this operation is not known in graphs of Llama models")
    _refuse_others(node, softcap=0.0, qk_matmul_output_mode=0)
    n_head, n_kv_head = integer(node, "q_num_heads", 1), integer(node, "kv_num_heads", 1)
    q = heads_first(inputs[0], n_head)
    k, v = (heads_first(form, n_kv_head) for form in inputs[1:3])
    k, v = _with_past(_given(inputs, 4), k), _with_past(_given(inputs, 5), v)
    mask = _given(inputs, 3)
    if mask is not None and mask.dtype == bool:
        mask = np.where(mask, 0.0, NOT_ATTENDED)
    if integer(node, "is_causal", 0):
        mask = _causal(run) if mask is None else mask + _causal(run)
    mask = None if mask is None else mask.reshape(mask.shape[-3:])
    result = _attend(run, node, q, k, v, mask, _scale(node))
    whole = result.flat(1, *result.shape) if len(inputs[0].shape) == 4 else _tokens_first(result)
    return [whole, k.flat(1, *k.shape), v.flat(1, *v.shape)]


def _quick_gelu(run: Evaluation, node: Node, inputs: list[Any]) -> list[Any]:
    if (alpha := node.attributes.get("alpha", 1.702)) != 1.0:
        raise OnnxError(f"{node.label}: alpha is {alpha!r}, expected 1 (SiLU)")
    return [
        multiplied(run.space, node, [inputs[0], computed_by(run.space, "Sigmoid", inside(node), inputs[0])])
    ]


FUSED: Mapping[str, Callable[[Evaluation, Node, list[Any]], list[Any]]] = {
    "Attention": _attention,
    "GroupQueryAttention": _grouped,
    "MultiHeadAttention": _multi_head,
    "QuickGelu": _quick_gelu,
    "RMSNormalization": _norm,
    "RotaryEmbedding": _rotary,
    "SimplifiedLayerNormalization": _norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
}
"""By name; those of ONNX Runtime stand in the domain ``com.microsoft`` or, some of them, in ONNX's own."""
