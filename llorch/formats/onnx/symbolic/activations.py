"""Operations on activations: scaling and linear sums stay forms, everything else makes a new term."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llorch.errors import OnnxError
from llorch.formats.onnx.dtypes import DTYPES
from llorch.formats.onnx.graph import Node
from llorch.formats.onnx.symbolic.moves import integer, integers, require_size
from llorch.formats.onnx.symbolic.values import Form, Numbers, Space, inside, joined, summed

FAR_BELOW = -1e4
"""What masks add to scores that do not count is below."""


def added(space: Space, node: Node, inputs: list[Any]) -> Form:
    """A sum: of numbers that the same activations scale, or a new term (residuals, biases, masks, epsilon)."""
    a, b = inputs
    if not isinstance(a, Form):
        a, b = b, a
    shape = np.broadcast_shapes(a.shape, b.shape)
    require_size(shape, node)
    if isinstance(b, Form):
        if space.touched(a) == space.touched(b):
            return summed(a, b)
    elif not b.any() and shape == a.shape:
        return _form(a)
    return space.add("Add", (a, b), shape, node, node.outputs[0])


def multiplied(space: Space, node: Node, inputs: list[Any]) -> Form:
    """A product."""
    a, b = inputs
    require_size(np.broadcast_shapes(a.shape, b.shape), node)
    if isinstance(a, Form) and isinstance(b, Form):
        return space.add("Mul", (a, b), np.broadcast_shapes(a.shape, b.shape), node, node.outputs[0])
    return a.scaled(b) if isinstance(a, Form) else _form(b).scaled(a)


def computed_by(space: Space, op: str, node: Node, *operands: Form, constant: float = 0.0) -> Form:
    """A term of the shape of its operand."""
    return space.add(op, operands, operands[0].shape, node, node.outputs[0], constant)


def _form(value: Any) -> Form:
    if not isinstance(value, Form):
        raise TypeError("a constant where an activation is expected")
    return value


def _subtract(space: Space, node: Node, inputs: list[Any]) -> Form:
    a, b = inputs
    return added(space, node, [a, b.scaled(np.array(-1.0)) if isinstance(b, Form) else -b])


def _divide(space: Space, node: Node, inputs: list[Any]) -> Form:
    a, b = inputs
    if not isinstance(b, Form):
        return _form(a).scaled(1.0 / np.asarray(b, np.float64))
    inverse = computed_by(space, "Reciprocal", inside(node), b)
    return multiplied(space, node, [a, inverse])


def _power(space: Space, node: Node, inputs: list[Any]) -> Form:
    base, exponent = inputs
    if isinstance(base, Form) and not isinstance(exponent, Form) and np.size(exponent) == 1:
        value = float(np.ravel(exponent)[0])
        if value == 2:
            return computed_by(space, "Mul", node, base, base)
        if value in (0.5, -0.5):
            root = computed_by(space, "Sqrt", node if value > 0 else inside(node), base)
            return root if value > 0 else computed_by(space, "Reciprocal", node, root)
    raise OnnxError(f"{node.label}: only squares and square roots are known in graphs of Llama models")


def _mean(space: Space, node: Node, inputs: list[Any]) -> Form:
    form = _form(inputs[0])
    axes = integers(node, inputs[1:], 0, "axes")
    if axes is None or [axis % len(form.shape) for axis in axes] != [len(form.shape) - 1]:
        raise OnnxError(f"{node.label}: a mean over axes {axes}, expected the last one, as in RMSNorm")
    shape = (*form.shape[:-1], 1) if integer(node, "keepdims", 1) else form.shape[:-1]
    return space.add("Mean", (form,), shape, node, node.outputs[0])


def _softmax(space: Space, node: Node, inputs: list[Any]) -> Form:
    form = _form(inputs[0])
    if integer(node, "axis", -1) % len(form.shape) != len(form.shape) - 1:
        raise OnnxError(f"{node.label}: softmax over another axis than the last")
    return computed_by(space, "Softmax", node, form)


def _matmul(space: Space, node: Node, inputs: list[Any]) -> Form:
    a, b = inputs
    if not (isinstance(a, Form) and isinstance(b, Form)):
        raise OnnxError(f"{node.label}: a product with constants that are not a matrix of the model")
    if min(len(a.shape), len(b.shape)) < 2 or a.shape[-1] != b.shape[-2]:
        raise OnnxError(f"{node.label}: shapes {a.shape} and {b.shape} cannot be multiplied")
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    require_size(shape, node)
    return space.add("MatMul", (a, b), shape, node, node.outputs[0])


def _where(space: Space, node: Node, inputs: list[Any]) -> Form:
    condition, a, b = inputs
    if isinstance(condition, Form):
        raise OnnxError(f"{node.label}: a choice that depends on activations")
    if isinstance(a, Form) and condition.all():
        return a.moved(lambda part: np.broadcast_to(part, np.broadcast_shapes(a.shape, condition.shape)))
    if isinstance(b, Form) and not condition.any():
        return b.moved(lambda part: np.broadcast_to(part, np.broadcast_shapes(b.shape, condition.shape)))
    form, numbers, keeps = (a, b, condition) if isinstance(a, Form) else (b, a, ~condition)
    if isinstance(numbers, Form) or (numbers > FAR_BELOW).any():
        raise OnnxError(f"{node.label}: a choice between activations, expected scores and a mask")
    return added(space, node, [form, np.where(keeps, 0.0, numbers)])


def _cast(space: Space, node: Node, inputs: list[Any]) -> Form:
    dtype = DTYPES.get(integer(node, "to", 0))
    if dtype is None or dtype.name not in ("float32", "float16", "bfloat16", "float64"):
        raise OnnxError(f"{node.label}: makes {dtype.name if dtype else 'an unknown type'} of activations")
    return _form(inputs[0])


def _concat(space: Space, node: Node, inputs: list[Any]) -> Form:
    forms = [value for value in inputs if (value.index.size if isinstance(value, Form) else np.size(value))]
    if not forms:
        return _form(inputs[0])
    if not all(isinstance(value, Form) for value in forms):
        raise OnnxError(f"{node.label}: joins activations and constants")
    return joined(forms, integer(node, "axis", 0))


def _not_a_number(space: Space, node: Node, inputs: list[Any]) -> Numbers:
    """No row of a causal mask is empty, so that no probability is one."""
    return np.zeros(_form(inputs[0]).shape, bool)


def _larger(space: Space, node: Node, inputs: list[Any]) -> Form:
    forms = [value for value in inputs if isinstance(value, Form)]
    if len(forms) != 1 or any((value > FAR_BELOW).any() for value in inputs if not isinstance(value, Form)):
        raise OnnxError(f"{node.label}: limits activations")
    return forms[0]


def _swish(space: Space, node: Node, inputs: list[Any]) -> Form:
    if node.attributes.get("alpha", 1.0) != 1.0:
        raise OnnxError(f"{node.label}: alpha is {node.attributes['alpha']!r}, expected 1 (SiLU)")
    return multiplied(space, node, [inputs[0], computed_by(space, "Sigmoid", inside(node), inputs[0])])


ACTIVATIONS: Mapping[str, Callable[[Space, Node, list[Any]], Any]] = {
    "Add": added,
    "Cast": _cast,
    "CastLike": lambda space, node, inputs: _form(inputs[0]),
    "Concat": _concat,
    "Div": _divide,
    "IsNaN": _not_a_number,
    "MatMul": _matmul,
    "Max": _larger,
    "Mul": multiplied,
    "Neg": lambda space, node, inputs: _form(inputs[0]).scaled(np.array(-1.0)),
    "Pow": _power,
    "Reciprocal": lambda space, node, inputs: computed_by(space, "Reciprocal", node, inputs[0]),
    "ReduceMean": _mean,
    "Sigmoid": lambda space, node, inputs: computed_by(space, "Sigmoid", node, inputs[0]),
    "Softmax": _softmax,
    "Sqrt": lambda space, node, inputs: computed_by(space, "Sqrt", node, inputs[0]),
    "Sub": _subtract,
    "Swish": _swish,
    "Where": _where,
}
