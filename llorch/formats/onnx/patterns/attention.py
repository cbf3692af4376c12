"""Causal attention with RoPE: softmax(q k / sqrt(width) + mask) v, heads of k and v shared by those of q."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from llorch.errors import OnnxError
from llorch.formats.onnx.patterns.linear import Product, Rows, product_of
from llorch.formats.onnx.patterns.refusal import unlike_llama
from llorch.formats.onnx.patterns.rope import Rotation, check_rotation, rotation_of
from llorch.formats.onnx.symbolic.activations import FAR_BELOW
from llorch.formats.onnx.symbolic.evaluation import Probe
from llorch.formats.onnx.symbolic.values import Form, Space, Term, same


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """One attention.

    Attributes:
        n_head, n_head_kv, width: heads of queries, of keys and values, and components of each.
        q, k, v: the weights, in GGUF's order of rows.
        rotation: of the queries.
        scale: what scores are multiplied with, RoPE's factor included.
        input: what q, k and v are multiplied with.
        forms: scores, shares, and rotated queries and keys (heads, tokens, width), as they stand in the graph.
    """

    n_head: int
    n_head_kv: int
    width: int
    q: Rows
    k: Rows
    v: Rows
    rotation: Rotation
    key_rotation: Rotation
    scale: float
    input: Form
    forms: dict[str, Form]


def attention_of(space: Space, out: Product, probe: Probe, known: Attention | None) -> Attention:
    """The attention whose output is multiplied with attn_output.

    Args:
        space: the activations.
        out: the product with attn_output.
        probe: what the graph was run for.
        known: the same attention as a run from position 0 on had it; None in that run.

    Raises:
        OnnxError: it is something else.
    """
    weighted = space.only(out.input)
    if weighted is None or weighted.op != "MatMul":
        raise unlike_llama(space, out.input, "the output of attention, shares of values, before attn_output")
    shares, values = (operand for operand in weighted.operands if isinstance(operand, Form))
    softmax = space.whole(shares)
    n, width = weighted.shape[-2:]
    n_head = math.prod(weighted.shape[:-2])
    heads = Form(np.arange(weighted.first, weighted.end).reshape(1, n_head, n, width))
    expected = heads.moved(lambda part: part.swapaxes(0, 1).reshape(n, n_head * width))
    if not same(out.input.flat(n, -1), expected):
        raise unlike_llama(space, out.input, "the heads of a token side by side before attn_output")
    if softmax is None or softmax.op != "Softmax":
        raise unlike_llama(space, shares, "softmax of scores")
    scores = _unmasked(space, softmax, probe)
    product = space.only(scores)
    if product is None or product.op != "MatMul" or len(scores.index) != 1:
        raise unlike_llama(space, scores, "scores, products of queries and keys")
    factors = scores.factors
    if (factors != factors.ravel()[0]).any() or not same(
        Form(scores.index), Form(np.arange(product.first, product.end).reshape(scores.index.shape))
    ):
        raise unlike_llama(space, scores, "scores times one factor")
    queries, keys = (operand for operand in product.operands if isinstance(operand, Form))
    return _heads(space, probe, known, queries, keys, values, (n_head, n, width), scores, shares, product)


def _unmasked(space: Space, softmax: Term, probe: Probe) -> Form:
    """Scores before the mask, which must let each token see itself and those before it."""
    (masked,) = softmax.operands
    assert isinstance(masked, Form)
    term = space.whole(masked)
    if term is None or term.op != "Add" or not isinstance(term.operands[1], np.ndarray):
        if probe.ids.shape[1] == 1:
            return masked
        raise unlike_llama(space, masked, "scores plus a causal mask, before softmax")
    scores, mask = term.operands
    assert isinstance(scores, Form)
    assert isinstance(mask, np.ndarray)
    n, n_kv = softmax.shape[-2:]
    seen = np.arange(n_kv) <= np.arange(n_kv - n, n_kv)[:, None]
    mask = np.broadcast_to(mask, masked.shape)
    if n_kv != probe.n_kv or (mask[..., seen] != 0).any() or (mask[..., ~seen] > FAR_BELOW).any():
        raise OnnxError(
            f"{term.node.label}: its mask is not causal, expected 0 for a token and those before it, and at most "
            f"{FAR_BELOW:g} for those after it (sliding windows and ALiBi are not supported)"
        )
    return scores


def _heads(
    space: Space,
    probe: Probe,
    known: Attention | None,
    queries: Form,
    keys: Form,
    values: Form,
    sizes: tuple[int, int, int],
    scores: Form,
    shares: Form,
    product: Term,
) -> Attention:
    n_head, n, width = sizes
    n_kv = probe.n_kv
    turned = keys.moved(lambda part: part.swapaxes(-1, -2))
    wide = [_spread(form, product.shape[:-2]) for form in (turned, values)]
    if queries.shape[-1] != width or any(form.shape[-2:] != (n_kv, width) for form in wide):
        raise unlike_llama(space, queries, f"queries, keys and values of the width {width}")
    q = _spread(queries, product.shape[:-2]).flat(n_head, n, width)
    k_new, v_new = (
        _new(space, form.flat(n_head, n_kv, width), probe, what)
        for form, what in zip(wide, ("keys", "values"), strict=True)
    )
    products = [
        _product(space, form, what) for form, what in ((q, "queries"), (k_new, "keys"), (v_new, "values"))
    ]
    if known is None:
        turns = [
            rotation_of(space, form, found, what)
            for form, found, what in ((q, products[0], "queries"), (k_new, products[1], "keys"))
        ]
    else:
        turns = [known.rotation, known.key_rotation]
        for form, found, turn, what in zip((q, k_new), products, turns, ("queries", "keys"), strict=False):
            check_rotation(space, form, found, turn, probe.n_past, what)
    rotation, key_rotation = turns
    if not np.array_equal(rotation.order, key_rotation.order) or not np.allclose(
        rotation.frequencies, key_rotation.frequencies, rtol=1e-6
    ):
        raise unlike_llama(space, keys, "keys that are rotated as the queries are")
    n_shared = _n_shared(space, keys, key_rotation.own)
    value_rows = products[2].rows_of(v_new)[0, :, 0]
    straight = np.broadcast_to(value_rows[:, None], v_new.shape)
    tokens = products[2].tokens_of(v_new)
    is_plain = len(v_new.index) == 1 and (v_new.factors == 1).all()
    if (
        not is_plain
        or (products[2].rows_of(v_new)[0] != straight).any()
        or (tokens != np.arange(n)[:, None]).any()
    ):
        raise unlike_llama(space, values, "values as the product with attn_v gives them")
    if _n_shared(space, values, value_rows) != n_shared:
        raise unlike_llama(space, values, "values that are shared by as many heads as the keys are")
    if not all(same(found.input, products[0].input) for found in products):
        raise unlike_llama(space, keys, "one input that attn_q, attn_k and attn_v share")
    return Attention(
        n_head=n_head,
        n_head_kv=n_head // n_shared,
        width=width,
        q=rotation.rows(products[0]),
        k=key_rotation.rows(products[1], n_shared),
        v=Rows(products[2], value_rows[::n_shared].ravel()),
        rotation=rotation,
        key_rotation=key_rotation,
        scale=float(scores.factors.ravel()[0]) * rotation.magnitude * key_rotation.magnitude,
        input=products[0].input,
        forms={"kq": scores, "kq_soft_max": shares, "Qcur_rope": q, "Kcur_rope": k_new, "Vcur": v_new},
    )


def _spread(form: Form, batch: tuple[int, ...]) -> Form:
    return form.moved(lambda part: np.broadcast_to(part, (*batch, *part.shape[-2:])))


def _new(space: Space, form: Form, probe: Probe, what: str) -> Form:
    """The part of keys or values that is not from the past, which must be the past as it came in."""
    n_past = probe.n_past
    if n_past:
        past = form.moved(lambda part: part[:, :n_past])
        term = space.only(past)
        n_heads, _, width = form.shape
        came_in = None if term is None or term.op != "Past" else np.arange(term.first, term.end)
        if (
            came_in is None
            or came_in.size % (n_past * width)
            or not np.array_equal(
                past.index[0],
                np.repeat(
                    came_in.reshape(-1, n_past, width), n_heads * n_past * width // came_in.size, axis=0
                ),
            )
        ):
            raise unlike_llama(space, past, f"the past {what}, before the new ones")
    new = form.moved(lambda part: part[:, n_past:])
    has_second = new.factor is not None and len(new.index) > 1 and (new.factor[1:] != 0).any()
    return new if has_second else Form(new.index[:1], None if new.factor is None else new.factor[:1])


def _product(space: Space, form: Form, what: str) -> Product:
    found = product_of(space, form)
    if found is None:
        raise unlike_llama(space, form, f"the product that gives the {what}")
    return found


def _n_shared(space: Space, form: Form, rows: np.ndarray) -> int:
    """How many heads of queries share each head of keys."""
    heads = [tuple(head) for head in rows.tolist()]
    distinct = list(dict.fromkeys(heads))
    n_shared = len(heads) // len(distinct)
    if heads != [head for head in distinct for _ in range(n_shared)]:
        raise unlike_llama(space, form, "heads that neighbouring heads of queries share, as many each")
    return n_shared
