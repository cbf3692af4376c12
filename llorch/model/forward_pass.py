"""The forward pass of Llama, in the paper's order.

`write_program` is the whole computation: read it top to bottom. It is written down once as a program, which
the thread team runs for every batch, prompt chunks and single tokens alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.kernels.buffers import Activation, ActivationForm, Rows
from llorch.kernels.kv_types import KVType
from llorch.kernels.ops.add import add, add_bias
from llorch.kernels.ops.attend import attend
from llorch.kernels.ops.attend_parts import PartBuffers
from llorch.kernels.ops.embed import embed
from llorch.kernels.ops.matmul import matmul
from llorch.kernels.ops.norm import norm
from llorch.kernels.ops.prepare import prepare
from llorch.kernels.ops.rope import rope
from llorch.kernels.ops.scores import scores
from llorch.kernels.ops.select import select
from llorch.kernels.ops.softmax import softmax_exponential, softmax_maximum, softmax_normalise
from llorch.kernels.ops.store import rope_store, store
from llorch.kernels.ops.swiglu import swiglu
from llorch.kernels.ops.values import values
from llorch.kernels.program import Program
from llorch.kernels.weights.format import Matrix
from llorch.model.config import ModelConfig
from llorch.model.residence import PlacedLayer, PlacedWeights

WRITTEN_OUT = 5
"""Instructions from the scores to the values, which the observed program has before `attend`: nothing reads what they
write, so that a step may leave them out."""


@dataclass(slots=True)
class RunState:
    """The buffers of a forward pass, for up to `n_batch` rows; reused by every layer and step."""

    x: Rows  # (n_embd), the residual stream
    normed: Activation  # (n_embd)
    q: Rows  # (n_head * head_dim)
    k: Rows  # (n_head_kv * head_dim)
    v: Rows  # (n_head_kv * head_dim)
    parts: PartBuffers  # what attention's threads leave for each other
    mixed: Activation  # (n_head * head_dim), attention's output
    delta: Rows  # (n_embd), what a sub-layer adds to the stream
    gate: Rows  # (n_ff)
    up: Rows  # (n_ff)
    gated: Activation  # (n_ff)
    last: Rows  # (n_embd), rows whose logits are wanted
    last_normed: Activation  # (n_embd)

    @classmethod
    def empty(cls, config: ModelConfig, weights: PlacedWeights, n_batch: int) -> RunState:
        """Zeroed buffers in the forms the weights want."""
        c, layers = config, weights.layers
        inputs = (m for w in layers for m in (w.attn_q, w.attn_k, w.attn_v, w.ffn_gate, w.ffn_up))
        return cls(
            x=Rows.empty(n_batch, c.n_embd),
            normed=Activation.empty(n_batch, c.n_embd, _forms(*inputs)),
            q=Rows.empty(n_batch, c.n_embd_q),
            k=Rows.empty(n_batch, c.n_embd_kv),
            v=Rows.empty(n_batch, c.n_embd_kv),
            parts=PartBuffers(c.n_head, c.n_head_kv, c.head_dim),
            mixed=Activation.empty(n_batch, c.n_embd_q, _forms(*(w.attn_output for w in layers))),
            delta=Rows.empty(n_batch, c.n_embd),
            gate=Rows.empty(n_batch, c.n_ff),
            up=Rows.empty(n_batch, c.n_ff),
            gated=Activation.empty(n_batch, c.n_ff, _forms(*(w.ffn_down for w in layers))),
            last=Rows.empty(n_batch, c.n_embd),
            last_normed=Activation.empty(n_batch, c.n_embd, _forms(weights.output)),
        )


def _forms(*matrices: Matrix) -> list[ActivationForm | None]:
    """The forms in which some matrices want what they are multiplied with."""
    return [m.format.activation for m in matrices]


def write_program(
    config: ModelConfig, weights: PlacedWeights, state: RunState, kv: KVType, *, observed: bool
) -> Program:
    """Write the forward pass down.

    Args:
        config: sizes.
        weights: where the kernels find them.
        state: buffers.
        kv: number type of the KV cache.
        observed: every named intermediate stands alone in a buffer when its tap is reached; otherwise steps are
            fused where that saves work. Both compute the same bits.
    """
    c, s, p = config, state, Program()
    embed(p, weights.token_embd, s.x)
    p.tap("inp_embd", -1, s.x)
    for i, layer in enumerate(weights.layers):
        _attention(p, i, layer, c, s, kv, observed)
        _feed_forward(p, i, layer, c, s, observed)
    select(p, s.x, s.last)
    _norm(
        p, -1, s.last, weights.output_norm, c.norm_eps, s.last_normed, "result_norm", observed, outputs=True
    )
    matmul(p, "output", -1, weights.output, s.last_normed, None, outputs=True)
    return p


def _attention(
    p: Program, i: int, w: PlacedLayer, c: ModelConfig, s: RunState, kv: KVType, observed: bool
) -> None:
    """x += W_o attend(rope(W_q n), rope(W_k n), W_v n) with n = rms_norm(x)."""
    heads, heads_kv = (c.n_head, c.head_dim), (c.n_head_kv, c.head_dim)
    _norm(p, i, s.x, w.attn_norm, c.norm_eps, s.normed, "attn_norm", observed)
    _product(p, i, w, "attn_q", w.attn_q, s.normed, s.q, barrier=observed)
    p.tap("Qcur", i, s.q, *heads)
    _product(p, i, w, "attn_k", w.attn_k, s.normed, s.k, barrier=observed)
    p.tap("Kcur", i, s.k, *heads_kv)
    _product(p, i, w, "attn_v", w.attn_v, s.normed, s.v)
    p.tap("Vcur", i, s.v, *heads_kv)
    if observed:
        rope(p, i, s.q, s.k, c.n_head, c.n_head_kv, c.head_dim, c.n_rot)
        p.tap("Qcur_rope", i, s.q, *heads)
        p.tap("Kcur_rope", i, s.k, *heads_kv)
        store(p, i, s.k, s.v, c.n_head_kv, c.head_dim, kv)
        scores(p, i, s.q, c.n_head, c.n_head_kv, c.head_dim, kv)
        softmax_maximum(p, i, c.n_head, c.head_dim)
        softmax_exponential(p, i, c.n_head)
        softmax_normalise(p, i, c.n_head)
        values(p, i, s.mixed.rows, c.n_head, c.n_head_kv, c.head_dim, kv)
    else:
        rope_store(p, i, s.q, s.k, s.v, c.n_head, c.n_head_kv, c.head_dim, c.n_rot, kv)
    attend(p, i, s.q, s.mixed.rows, c.n_head, c.n_head_kv, c.head_dim, kv, s.parts)
    p.tap("kqv_out", i, s.mixed.rows)
    prepare(p, i, s.mixed)
    _add_product(p, i, w, "attn_output", w.attn_output, s.mixed, s, "attn_out", "ffn_inp", observed)


def _feed_forward(p: Program, i: int, w: PlacedLayer, c: ModelConfig, s: RunState, observed: bool) -> None:
    """x += W_down (silu(W_gate n) * W_up n) with n = rms_norm(x)."""
    _norm(p, i, s.x, w.ffn_norm, c.norm_eps, s.normed, "ffn_norm", observed)
    _product(p, i, w, "ffn_gate", w.ffn_gate, s.normed, s.gate, barrier=observed)
    p.tap("ffn_gate", i, s.gate)
    _product(p, i, w, "ffn_up", w.ffn_up, s.normed, s.up)
    p.tap("ffn_up", i, s.up)
    if observed:
        swiglu(p, i, s.gate, s.up, Activation(s.gated.rows))
        p.tap("ffn_swiglu", i, s.gated.rows)
        prepare(p, i, s.gated)
    else:
        swiglu(p, i, s.gate, s.up, s.gated)
    _add_product(p, i, w, "ffn_down", w.ffn_down, s.gated, s, "ffn_out", "l_out", observed)


def _norm(
    p: Program, i: int, x: Rows, weight: NDArray[np.float32], eps: float, out: Activation, name: str,
    observed: bool, outputs: bool = False,
) -> None:  # fmt: skip
    """out = rms_norm(x) * weight, in every form the next products want."""
    if observed:
        norm(p, i, x, weight, eps, Activation(out.rows), outputs)
        p.tap(name, i, out.rows, is_output=outputs)
        prepare(p, i, out, outputs)
    else:
        norm(p, i, x, weight, eps, out, outputs)


def _product(
    p: Program, i: int, w: PlacedLayer, name: str, weight: Matrix, x: Activation, out: Rows, barrier: bool = True
) -> None:  # fmt: skip
    """out = weight @ x, and its bias where the file has one."""
    bias = w.biases.get(name)
    matmul(p, name, i, weight, x, out, barrier=barrier or bias is not None)
    if bias is not None:
        add_bias(p, i, bias, out)


def _add_product(
    p: Program, i: int, w: PlacedLayer, name: str, weight: Matrix, x: Activation, s: RunState, product: str,
    total: str, observed: bool,
) -> None:  # fmt: skip
    """stream += weight @ x; with a bias, that is added to the product first, as llama.cpp does."""
    if observed or name in w.biases:
        _product(p, i, w, name, weight, x, s.delta)
        p.tap(product, i, s.delta)
        add(p, i, s.delta, s.x, s.x)
    else:
        matmul(p, name, i, weight, x, s.x, accumulate=True)
    p.tap(total, i, s.x)
