"""The one table of what is compared, how close it must be, why, and what a failure usually means.

`llorch validate`, the proof bundles and the tests all read it. A stage is an intermediate value with a public
name (see `llorch.observe.probe`); a checkpoint groups stages, or states a property of the final logits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from llorch.validation.bounds import Tolerance, rounded, summed

Profile = Literal["native", "f32"]
"""`native`: the file as it is, activations quantised where its weights are. `f32`: its weights expanded."""

N_GREEDY_TOKENS = 10
N_IDENTICAL_RUNS = 3
N_TOP_TOKENS = 5
SOFTMAX_TEMPERATURE = 0.8
TIE_MARGIN = 0.002
"""Best minus second-best logit of the reference below which another argmax is a tie, not an error."""

TIE_SPREAD = 4.0
"""Nor is it an error within so many root mean square differences of that row's logits, which checkpoint 8 judges.

In float32 that is far less than `TIE_MARGIN`; it counts where the int8 activations of a deep model drift.
"""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One row of the table.

    Attributes:
        number: ``"1"`` to ``"12"``, with ``"3b"``.
        title: for people.
        tolerance: with the reference's own values as input (stage-local).
        stages: compared intermediates in the order they are computed, by public name without the layer: what
            usually is wrong when this is the first to differ. Empty for a property of the result.
        hint: what a failure usually means, where no stage says it better.
        drift: tolerance when our own values feed every stage (end to end), by profile.
    """

    number: str
    title: str
    tolerance: Tolerance
    stages: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""
    drift: Mapping[Profile, Tolerance] = field(default_factory=dict)


_TIE = f"{TIE_MARGIN:g} or {TIE_SPREAD:g} times the drift of the logits"
_DRIFT: Mapping[Profile, Tolerance] = {
    "native": Tolerance(
        None,
        "a difference in the last bit can move an int8 activation by one step; such moves multiply until two "
        "correct engines are about as far apart as the rounding to int8 itself puts either from exact "
        "arithmetic. Measured, as NMSE between llama.cpp's own native and F32 runs, and between ours and its "
        "native one: 4e-4 and 2.5e-4 (trained, 6 layers), 3e-4 and 1e-4 (134M random weights), 2.7e-3 and "
        "1.2e-3 (1.1B random weights). Faults are found stage by stage; this bound only says that nothing "
        "else adds up",
        nmse=1e-2,
    ),
    "f32": Tolerance(
        None,
        "nothing is quantised on the way, so only the rounding of float32 sums adds up with the depth",
        nmse=1e-8,
    ),
}

WHOLE_LAYER: Mapping[Profile, Tolerance] = {
    "native": Tolerance(
        None, "few int8 steps are moved within one layer: 2.4e-6 was measured at most (1.1B)", nmse=1e-4
    ),
    "f32": Tolerance(None, "float32 sums of one layer: 5e-14 was measured at most (1.1B)", nmse=1e-10),
}
"""What the output of a layer may differ by whose stages were not dumped, from the reference's input to it."""

F32_LOGITS = Tolerance(
    None,
    "logits of the whole depth where weights are float32, or expanded to it, against another implementation in "
    "float32: only the order of additions differs; 1.5e-12 was measured at most (tiny models)",
    nmse=1e-8,
)
ROUNDED_LOGITS: Mapping[str, Tolerance] = {
    "BF16": Tolerance(
        None,
        "activations are rounded to BF16 before they meet BF16 weights, as llama.cpp does: half a unit in the last "
        "place is 2^-9, which adds 1.3e-6 for each product on the way; 4.4e-5 was measured at most (tiny models), "
        "where transformers' own BF16 computation, which rounds every result, is 1.6e-4 to 6.1e-4 off",
        nmse=1.5e-4,
    ),
    "F16": Tolerance(
        None, "as for BF16 with half a unit of 2^-12, 64 times less; 5.3e-7 was measured", nmse=2.5e-6
    ),
}
"""Logits of the whole depth with weights of such a type, against a computation of the same weights in float32."""

CHECKPOINTS: tuple[Checkpoint, ...] = (
    Checkpoint(
        "1",
        "token embedding and RMSNorm",
        Tolerance(1e-5, "one product per value; done in llama.cpp's order it even is bit-exact"),
        {
            "inp_embd": "wrong embedding row, block scale read as another type, or other token ids",
            "attn_norm": "eps, the mean over the wrong axis, or a norm after instead of before attention",
        },
        drift=_DRIFT,
    ),
    Checkpoint(
        "2",
        "Q, K, V projections",
        summed("integer products are exact, float32 block sums may be added in another order"),
        {
            "Qcur": "activations not quantised like llama.cpp's, a wrong scale, or a transposed weight",
            "Kcur": "activations not quantised like llama.cpp's, or heads and key-value heads mixed up",
            "Vcur": "activations not quantised like llama.cpp's, or K and V mixed up",
        },
        drift=_DRIFT,
    ),
    Checkpoint(
        "3",
        "RoPE",
        rounded(
            1e-5,
            "equal inputs, one rotation; angles must be built by llama.cpp's float32 recurrence, "
            "which is off the true angle by 2e-5 at position 270",
        ),
        {
            "Qcur_rope": "half-split instead of neighbouring pairs, start position, base, or rope_freqs",
            "Kcur_rope": "half-split instead of neighbouring pairs, start position, base, or rope_freqs",
        },
        drift=_DRIFT,
    ),
    Checkpoint(
        "3b",
        "KV cache rows",
        Tolerance(0.0, "the cache must hold our own rotated K and plain V, bit for bit"),
        hint="a row not written, written to another position, V rotated, or a cache type that rounds",
    ),
    Checkpoint(
        "4",
        "attention scores",
        rounded(1e-4, "a dot product of head_dim float32 values"),
        {
            "kq": "query heads matched with the wrong key-value head, or stale cache rows",
            "kq_soft_max": "score scale is not 1/sqrt(head_dim), mask missing or off by one",
        },
        drift=_DRIFT,
    ),
    Checkpoint(
        "5",
        "attention output",
        summed("as for the projections"),
        {
            "kqv_out": "V of the wrong head or row, or heads joined in the wrong order",
            "attn_out": "activations not quantised like llama.cpp's, or a residual added too early",
        },
        drift=_DRIFT,
    ),
    Checkpoint(
        "6",
        "feed-forward network",
        summed("as for the projections; the sigmoid may be a polynomial"),
        {
            "ffn_norm": "eps, or the norm of another tensor than the residual stream",
            "ffn_gate": "activations not quantised like llama.cpp's, or gate and up swapped",
            "ffn_up": "activations not quantised like llama.cpp's, or gate and up swapped",
            "ffn_swiglu": "SiLU on up instead of gate, or another activation",
            "ffn_out": "activations not rounded to the type that the weight asks for",
        },
        drift=_DRIFT,
    ),
    Checkpoint(
        "7",
        "residual stream",
        rounded(1e-4, "one float32 addition, bit-exact on equal inputs"),
        {
            "ffn_inp": "the residual around attention is missing or taken after the norm",
            "l_out": "the residual around the feed-forward network is missing or taken after the norm",
        },
        drift=_DRIFT,
    ),
    Checkpoint(
        "8",
        "logits of all positions",
        Tolerance(1e-3, "the longest sums of the model, from the reference's last layer output"),
        {
            "result_norm": "eps, or the last norm skipped",
            "result_output": "a tied head used although output.weight exists, or the other way round",
        },
        drift={
            "native": _DRIFT["native"],
            "f32": Tolerance(1e-3, "whole depth in float32; 7e-6 was measured on small models"),
        },
    ),
    Checkpoint(
        "9",
        "logits of the last position",
        Tolerance(0.0, "asking for one row of logits must give the same bits as asking for all"),
        hint="the result depends on what else is in the batch, or the wrong row is taken",
    ),
    Checkpoint(
        "10",
        "most likely token",
        Tolerance(0.0, f"same token, unless the reference's two best logits are within {_TIE}"),
        hint="wrong logits, or ids shifted against the vocabulary",
    ),
    Checkpoint(
        "11",
        f"softmax at temperature {SOFTMAX_TEMPERATURE:g}",
        Tolerance(
            1e-6, f"softmax of the same logits; the {N_TOP_TOKENS} best ids equal, the sum 1 within 1e-6"
        ),
        hint="temperature applied after the softmax, or a softmax that is not shifted by the maximum",
    ),
    Checkpoint(
        "12",
        f"{N_GREEDY_TOKENS} greedy tokens, {N_IDENTICAL_RUNS} runs",
        Tolerance(0.0, f"same ids up to a tie within {_TIE}; all runs identical in every bit"),
        hint="positions or cache rows wrong after the prompt, or a result that depends on threads or chunks",
    ),
)

BY_NUMBER: Mapping[str, Checkpoint] = {checkpoint.number: checkpoint for checkpoint in CHECKPOINTS}
STAGES: Mapping[str, Checkpoint] = {stage: c for c in CHECKPOINTS for stage in c.stages}
"""The checkpoint that a stage belongs to."""

LAYER_ORDER: tuple[str, ...] = (
    "attn_norm", "Qcur", "Kcur", "Vcur", "Qcur_rope", "Kcur_rope", "kq", "kq_soft_max", "kqv_out", "attn_out",
    "ffn_inp", "ffn_norm", "ffn_gate", "ffn_up", "ffn_swiglu", "ffn_out", "l_out",
)  # fmt: skip
"""Stages of a layer in the order of the computation: the first one to differ is where the fault is."""


def hint_of(number: str, stage: str) -> str:
    """What usually is wrong when a checkpoint fails at this stage first."""
    checkpoint = BY_NUMBER[number]
    return checkpoint.stages.get(stage, checkpoint.hint)


def stage_names(n_layer: int, layers: Collection[int] | None = None) -> Iterator[tuple[str, int]]:
    """Stages as (name, layer) in the order of the computation; layer -1 is outside the layers.

    With `layers`, those that a dump of these layers holds: of all others their output alone.
    """
    yield "inp_embd", -1
    for layer in range(n_layer):
        is_whole = layers is None or layer in layers
        for name in LAYER_ORDER if is_whole else ("l_out",):
            yield name, layer
    yield "result_norm", -1
    yield "result_output", -1


def stage_key(stage: str, layer: int) -> str:
    """``"attn_norm-0"``, or the plain name outside the layers (layer -1)."""
    return stage if layer < 0 else f"{stage}-{layer}"
