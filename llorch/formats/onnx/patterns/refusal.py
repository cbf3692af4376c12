"""Errors of a graph that is not one of a Llama model: they name the node, what it is and what was expected there."""

from __future__ import annotations

from llorch.errors import OnnxError
from llorch.formats.onnx.symbolic.values import Form, Space, Value


def unlike_llama(space: Space, found: Value, expected: str) -> OnnxError:
    """The error for a value in whose place Llama has something else."""
    return OnnxError(f"{described(space, found)} stands where a Llama model has {expected}")


def described(space: Space, value: Value) -> str:
    """A value in words: its node, and what became of its output."""
    if not isinstance(value, Form):
        return f"a constant of the shape {value.shape}"
    if not value.index.size:
        return "an empty value"
    term = space.term_of(int(value.index.ravel()[0]))
    label = f"input {term.value!r}" if term.op == "Past" else term.node.label
    if space.whole(value) is not None:
        return label
    if space.only(value) is None:
        return f"a mixture of the outputs of the {label} and others"
    return f"the output of the {label}, moved or scaled,"
