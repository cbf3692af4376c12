"""A Llama model among the activations, from the logits back to the token ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llorch.formats.onnx.patterns.attention import Attention, attention_of
from llorch.formats.onnx.patterns.feed_forward import FeedForward, feed_forward_of
from llorch.formats.onnx.patterns.linear import Product, Rows, product_of, straight_rows
from llorch.formats.onnx.patterns.norm import Norm, norm_of
from llorch.formats.onnx.patterns.refusal import unlike_llama
from llorch.formats.onnx.symbolic.evaluation import Probe
from llorch.formats.onnx.symbolic.values import Form, Matrix, Space, Term, same


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One transformer block.

    Attributes:
        after_attention, after: the residual stream in the middle and at the end.
    """

    attn_norm: Norm
    attention: Attention
    attn_output: Rows
    ffn_norm: Norm
    feed_forward: FeedForward
    ffn_down: Rows
    after_attention: Form
    after: Form


@dataclass(frozen=True, slots=True, eq=False)
class LlamaGraph:
    """The whole model."""

    embedding: Matrix
    embedded: Form
    layers: list[Layer]
    output_norm: Norm
    normed: Form
    head: Product


def find_llama(space: Space, logits: Form, probe: Probe, known: LlamaGraph | None) -> LlamaGraph:
    """The model that computes the logits.

    Args:
        space: the activations.
        logits: (1, tokens, n_vocab); of the last tokens, too.
        probe: what the graph was run for.
        known: the model as a run from position 0 on had it; None in that run.

    Raises:
        OnnxError: the graph computes something else than Llama.
    """
    head = product_of(space, logits)
    if head is None:
        raise unlike_llama(space, logits, "the product with the output matrix, logits")
    _require_rows(space, head, logits, "logits of all tokens of the vocabulary, in order")
    normed = head.input
    output_norm = norm_of(space, _all_tokens(space, normed), "norm before the output matrix")
    layers: list[Layer] = []
    stream = output_norm.input
    while (term := _embedding(space, stream)) is None:
        place = len(layers)
        before = None if known is None or place >= len(known.layers) else known.layers[-1 - place]
        layers.append(_layer(space, stream, probe, before))
        stream = layers[-1].attn_norm.input
    if not layers:
        raise unlike_llama(space, stream, "transformer blocks after the embedding")
    (table,) = term.operands
    assert isinstance(table, Matrix)
    return LlamaGraph(table, stream, layers[::-1], output_norm, normed, head)


def _embedding(space: Space, stream: Form) -> Term | None:
    term = space.whole(stream)
    return term if term is not None and term.op == "Embedding" else None


def _all_tokens(space: Space, form: Form) -> Form:
    """The values of all tokens, where the graph goes on with the last ones only."""
    term = space.only(form)
    n_taken = form.index.size // max(1, form.shape[-1])
    if term is None or len(form.index) != 1 or term.shape[-1] != form.shape[-1]:
        return form
    tokens = np.unique((form.index - term.first) // term.shape[-1])
    n = (term.end - term.first) // term.shape[-1]
    if n_taken == n or not np.array_equal(tokens, np.arange(n - n_taken, n)):
        return form
    factors = np.broadcast_to(form.factors.reshape(-1, form.shape[-1])[:1], (n, form.shape[-1]))
    return Form(np.arange(term.first, term.end).reshape(1, *term.shape), factors.reshape(1, *term.shape))


def _layer(space: Space, stream: Form, probe: Probe, known: Layer | None) -> Layer:
    middle, down = _residual(space, stream, "the residual stream plus ffn_down")
    feed_forward = feed_forward_of(space, down)
    ffn_norm = norm_of(space, feed_forward.input, "ffn_norm")
    if not same(ffn_norm.input, middle):
        raise unlike_llama(space, ffn_norm.input, "the residual stream, before ffn_norm")
    start, out = _residual(space, middle, "the residual stream plus attn_output")
    attention = attention_of(space, out, probe, None if known is None else known.attention)
    attn_norm = norm_of(space, attention.input, "attn_norm")
    if not same(attn_norm.input, start):
        raise unlike_llama(space, attn_norm.input, "the residual stream, before attn_norm")
    return Layer(
        attn_norm=attn_norm,
        attention=attention,
        attn_output=Rows(out, np.arange(out.n_out)),
        ffn_norm=ffn_norm,
        feed_forward=feed_forward,
        ffn_down=Rows(down, np.arange(down.n_out)),
        after_attention=middle,
        after=stream,
    )


def _residual(space: Space, stream: Form, expected: str) -> tuple[Form, Product]:
    """What a sum is of: the stream before, and a product."""
    term = space.whole(stream)
    if term is None or term.op != "Add":
        raise unlike_llama(space, stream, expected)
    a, b = term.operands
    for before, added in ((a, b), (b, a)):
        if not (isinstance(before, Form) and isinstance(added, Form)):
            continue
        inner, product = space.whole(before), product_of(space, added)
        is_stream = inner is not None and (
            inner.op == "Embedding" or (inner.op == "Add" and product_of(space, before) is None)
        )
        if product is not None and is_stream:
            _require_rows(space, product, added, f"{expected}, all its numbers in order")
            return before, product
    raise unlike_llama(space, stream, expected)


def _require_rows(space: Space, product: Product, form: Form, expected: str) -> None:
    n = form.index.size // form.shape[-1]
    last = form.flat(n, form.shape[-1])
    tokens = product.tokens_of(last)[0]
    rows = product.rows_of(last)[0]
    n_all = (product.term.end - product.term.first) // product.n_out
    is_last = (tokens == np.arange(n_all - n, n_all)[:, None]).all()
    straight = straight_rows(product, form) if n == n_all else rows[0]
    if straight is None or not is_last or not np.array_equal(straight, np.arange(product.n_out)):
        raise unlike_llama(space, form, expected)
