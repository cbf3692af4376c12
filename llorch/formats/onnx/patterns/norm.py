"""RMSNorm: x / sqrt(mean(x²) + epsilon), times a weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.formats.onnx.patterns.refusal import unlike_llama
from llorch.formats.onnx.symbolic.values import Form, Space, Term, Value, same


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """One RMSNorm.

    Attributes:
        input: what is normalised.
        weight: float32 (n_embd,).
        epsilon: of the norm.
    """

    input: Form
    weight: NDArray[np.float32]
    epsilon: float


def norm_of(space: Space, form: Form, where: str) -> Norm:
    """The norm that a form is the output of.

    Args:
        space: the activations.
        form: (1, tokens, n_embd).
        where: what the norm is in the model, for messages.

    Raises:
        OnnxError: it is something else.
    """
    term = space.only(form)
    expected = f"the {where} (RMSNorm)"
    if term is None or len(form.index) != 1 or form.index.size != term.end - term.first:
        raise unlike_llama(space, form, expected)
    if (form.index.ravel() != np.arange(term.first, term.end)).any():
        raise unlike_llama(space, form, expected)
    factors = form.factors.reshape(-1, form.shape[-1])
    found = _normalised(space, term)
    if found is None or (factors != factors[0]).any():
        raise unlike_llama(space, form, expected)
    return Norm(found[0], factors[0].astype(np.float32), found[1])


def _normalised(space: Space, term: Term) -> tuple[Form, float] | None:
    """Input and epsilon of a norm without its weight."""
    if term.op == "RmsNorm":
        (given,) = term.operands
        return (given, term.constant) if isinstance(given, Form) else None
    if term.op != "Mul":
        return None
    for given, inverse in (term.operands, term.operands[::-1]):
        root = _operand(space, inverse, "Reciprocal")
        mean_square = None if root is None else _operand(space, root, "Sqrt")
        found = None if mean_square is None else _mean_square(space, mean_square)
        if found is not None and isinstance(given, Form) and same(found[0], given):
            return given, found[1]
    return None


def _operand(space: Space, value: Value, op: str) -> Value | None:
    """What `op` was applied to, if `value` is its output."""
    term = space.whole(value) if isinstance(value, Form) else None
    return term.operands[0] if term is not None and term.op == op else None


def _mean_square(space: Space, value: Value) -> tuple[Form, float] | None:
    """x and epsilon of mean(x²) + epsilon."""
    term = space.whole(value) if isinstance(value, Form) else None
    if term is None or term.op != "Add" or not isinstance(term.operands[1], np.ndarray):
        return None
    squares = _operand(space, term.operands[0], "Mean")
    square = space.whole(squares) if isinstance(squares, Form) else None
    if square is None or square.op != "Mul" or not same(*square.operands) or term.operands[1].size != 1:
        return None
    given = square.operands[0]
    return (given, float(term.operands[1].ravel()[0])) if isinstance(given, Form) else None
