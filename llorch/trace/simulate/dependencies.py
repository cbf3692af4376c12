"""What each operation of the forward pass reads and writes, and so what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STREAM, INPUT, CACHE = "stream", "input", "cache"
"""Values that several operations write: the residual stream, what the next products read, keys and values."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What an operation reads and writes, by name.

    Attributes:
        reads, writes: names of values.
        has_heads: every group of heads that shares a KV head can be computed by itself.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    has_heads: bool = False


_FLOWS = {
    "embed": Flow((), (STREAM,)),
    "norm": Flow((STREAM,), (INPUT,)),
    "prepare": Flow((INPUT,), (INPUT,)),
    "attn_q": Flow((INPUT,), ("q",), has_heads=True),
    "attn_k": Flow((INPUT,), ("k",), has_heads=True),
    "attn_v": Flow((INPUT,), ("v",), has_heads=True),
    "rope": Flow(("q", "k"), ("q", "k"), has_heads=True),
    "store": Flow(("k", "v"), (CACHE,), has_heads=True),
    "rope_store": Flow(("q", "k", "v"), ("q", CACHE), has_heads=True),
    "attend": Flow(("q", CACHE), (INPUT,), has_heads=True),
    "scores": Flow(("q", CACHE), ("scores",), has_heads=True),
    "softmax_maximum": Flow(("scores",), ("scores",), has_heads=True),
    "softmax_exponential": Flow(("scores",), ("scores",), has_heads=True),
    "softmax_normalise": Flow(("scores",), ("scores",), has_heads=True),
    "values": Flow(("scores", CACHE), (INPUT,), has_heads=True),
    "attn_output": Flow((INPUT, STREAM), (STREAM,)),
    "add": Flow((STREAM,), (STREAM,)),
    "ffn_gate": Flow((INPUT,), ("gate",)),
    "ffn_up": Flow((INPUT,), ("up",)),
    "swiglu": Flow(("gate", "up"), (INPUT,)),
    "ffn_down": Flow((INPUT, STREAM), (STREAM,)),
    "select": Flow((STREAM,), (STREAM,)),
    "output": Flow((INPUT,), ("logits",)),
}


def flows(labels: Sequence[str]) -> list[Flow]:
    """What every operation of a program reads and writes.

    A bias is added to the product before it. An operation that this table does not know waits for the one before it,
    and the next one for it.
    """
    found: list[Flow] = []
    for label in labels:
        flow = _FLOWS.get(label)
        if flow is None and found:
            values = found[-1].writes
            flow = Flow(values, values, found[-1].has_heads if label == "bias" else False)
        found.append(flow or Flow((), (STREAM,)))
    return found
