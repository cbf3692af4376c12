"""Which operation of a timeline produces which named intermediate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

STAGE_PRODUCERS: Mapping[str, tuple[str, ...]] = {
    "inp_embd": ("embed",),
    "attn_norm": ("norm",),
    "Qcur": ("attn_q",),
    "Kcur": ("attn_k",),
    "Vcur": ("attn_v",),
    "Qcur_rope": ("rope", "rope_store"),
    "Kcur_rope": ("rope", "rope_store"),
    "cache_k": ("store", "rope_store"),
    "cache_v": ("store", "rope_store"),
    "kq": ("scores", "attend"),
    "kq_soft_max": ("softmax_normalise", "attend"),
    "kqv_out": ("attend",),
    "attn_out": ("attn_output",),
    "ffn_inp": ("add", "attn_output"),
    "ffn_norm": ("norm",),
    "ffn_gate": ("ffn_gate",),
    "ffn_up": ("ffn_up",),
    "ffn_swiglu": ("swiglu",),
    "ffn_out": ("ffn_down",),
    "l_out": ("add", "ffn_down"),
    "result_norm": ("norm",),
    "result_output": ("output",),
}
"""The operations that may produce a stage, by label: the first that a layer has does it.

A program for speed fuses operations: what no operation of its own produces, the one that it is fused with does.
"""

SECOND = ("ffn_norm", "l_out")
"""Stages that come from the second operation of that name in a layer."""

FUSED_OPERATIONS = (
    "embed", "norm", "attn_q", "attn_k", "attn_v", "rope_store", "attend", "prepare", "attn_output",
    "ffn_gate", "ffn_up", "swiglu", "ffn_down", "select", "output",
)  # fmt: skip
"""Operations of the program for speed, in the order of the computation."""


def producer_of(stage: str, labels: Collection[str]) -> str | None:
    """Label of the operation that produces a stage, among those that its layer has; None where none does."""
    return next((label for label in STAGE_PRODUCERS.get(stage, ()) if label in labels), None)


def stages_of(labels: Sequence[tuple[str, int]]) -> list[tuple[str, ...]]:
    """The stages that each instruction of a program produces.

    Args:
        labels: (operation, layer) of every instruction, as `Llama.labels`.
    """
    places: dict[int, dict[str, list[int]]] = {}
    for index, (label, layer) in enumerate(labels):
        places.setdefault(layer, {}).setdefault(label, []).append(index)
    stages: list[tuple[str, ...]] = [() for _ in labels]
    for layer, of_label in places.items():
        for stage in STAGE_PRODUCERS:
            place = _place(stage, of_label)
            if place is not None and (layer < 0) == (stage in ("inp_embd", "result_norm", "result_output")):
                stages[place] += (stage,)
    return stages


def _place(stage: str, of_label: Mapping[str, list[int]]) -> int | None:
    """Where a layer's instruction stands that produces a stage; `of_label` has the places of each operation."""
    nth = int(stage in SECOND)
    for label in STAGE_PRODUCERS[stage]:
        found = of_label.get(label, [])
        if len(found) > nth:
            return found[nth]
        if found and label != "add":  # fused, and the only one of its name
            return found[0]
    return None
