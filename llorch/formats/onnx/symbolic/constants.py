"""Operations on numbers: what does not depend on the weights is computed while the graph is read.

Half-precision numbers are computed as float32: only so do tables of cosines say which frequencies are meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llorch.errors import OnnxError
from llorch.formats.onnx.dtypes import DTYPES
from llorch.formats.onnx.graph import Node, OnnxTensor
from llorch.formats.onnx.symbolic.moves import MOST_ELEMENTS, integer, integers, require_size
from llorch.formats.onnx.symbolic.values import Numbers


def numbers_of(tensor: OnnxTensor) -> Numbers:
    """The numbers of a constant; half precision widened."""
    values = tensor.values()
    return values.astype(np.float32) if values.dtype == np.float16 else values


def cast(values: Numbers, number: int, node: Node) -> Numbers:
    """Numbers in another of ONNX's types."""
    dtype = DTYPES.get(number)
    if dtype is None or dtype.name in ("string", "complex64", "complex128"):
        raise OnnxError(f"{node.label}: casts to the type {number}, which is not followed")
    if dtype.name in ("float16", "bfloat16"):
        return values.astype(np.float32)
    if dtype.numpy is None:
        raise OnnxError(f"{node.label}: casts to {dtype.name}, which is not followed")
    return values.astype(dtype.numpy)


def computed(node: Node, inputs: list[Any]) -> list[Numbers]:
    """The outputs of an operation on numbers.

    Raises:
        OnnxError: the operation is not among those of masks, positions and shapes.
    """
    compute = NUMBERS.get(node.op_type)
    if compute is None or node.domain not in ("", "ai.onnx"):
        raise OnnxError(f"{node.label}: this operation on constants is not known in graphs of Llama models")
    result = compute(node, inputs)
    return [np.asarray(result)]


def _elementwise(function: Callable[..., Any]) -> Callable[[Node, list[Any]], Any]:
    def compute(node: Node, inputs: list[Any]) -> Any:
        require_size(np.broadcast_shapes(*(np.shape(value) for value in inputs)), node)
        return function(*inputs)

    return compute


def _divide(a: Numbers, b: Numbers) -> Any:
    if a.dtype.kind in "iu":
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return a / b


def _reduce(function: Callable[..., Any]) -> Callable[[Node, list[Any]], Any]:
    def compute(node: Node, inputs: list[Any]) -> Any:
        axes = integers(node, inputs[1:], 0, "axes")
        if axes is None and integer(node, "noop_with_empty_axes", 0):
            return inputs[0]
        keeps = bool(integer(node, "keepdims", 1))
        reduced = function(inputs[0], axis=None if axes is None else tuple(axes), keepdims=keeps)
        return np.asarray(reduced, inputs[0].dtype)

    return compute


def _constant(node: Node, inputs: list[Any]) -> Any:
    value = next(iter(node.attributes.values()), None)
    if isinstance(value, OnnxTensor):
        return numbers_of(value)
    if isinstance(value, (int, float)):
        return np.array(value, np.float32 if isinstance(value, float) else np.int64)
    if isinstance(value, list) and all(isinstance(part, (int, float)) for part in value):
        return np.array(value, np.float32 if any(isinstance(part, float) for part in value) else np.int64)
    raise OnnxError(f"{node.label}: its value is not numbers")


def _constant_of_shape(node: Node, inputs: list[Any]) -> Any:
    shape = [int(size) for size in inputs[0]]
    require_size(shape, node)
    value = node.attributes.get("value")
    return np.full(shape, numbers_of(value).ravel()[0] if isinstance(value, OnnxTensor) else np.float32(0))


def _range(node: Node, inputs: list[Any]) -> Any:
    start, limit, step = (value.reshape(()) for value in inputs)
    if step == 0 or abs((float(limit) - float(start)) / float(step)) > MOST_ELEMENTS:
        raise OnnxError(f"{node.label}: the range is too long to follow")
    return np.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


def _cumsum(node: Node, inputs: list[Any]) -> Any:
    if integer(node, "exclusive", 0) or integer(node, "reverse", 0):
        raise OnnxError(f"{node.label}: exclusive or reverse sums are not known in graphs of Llama models")
    return np.cumsum(inputs[0], int(inputs[1]), inputs[0].dtype)


def _trilu(node: Node, inputs: list[Any]) -> Any:
    cut = np.triu if integer(node, "upper", 1) else np.tril
    return cut(inputs[0], int(np.ravel(inputs[1])[0]) if len(inputs) > 1 else 0)


def _scatter_nd(node: Node, inputs: list[Any]) -> Any:
    if node.attributes.get("reduction", "none") != "none":
        raise OnnxError(f"{node.label}: reductions are not known in graphs of Llama models")
    data, indices, updates = inputs
    changed = np.array(data)
    changed[tuple(indices[..., i] for i in range(indices.shape[-1]))] = updates
    return changed


def _concat(node: Node, inputs: list[Any]) -> Any:
    require_size([sum(np.size(value) for value in inputs)], node)
    return np.concatenate(inputs, integer(node, "axis", 0))


def _clip(node: Node, inputs: list[Any]) -> Any:
    low, high = (inputs[i] if i < len(inputs) else None for i in (1, 2))
    return inputs[0] if low is None and high is None else np.clip(inputs[0], low, high)


NUMBERS: Mapping[str, Callable[[Node, list[Any]], Any]] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and),
    "Cast": lambda node, inputs: cast(inputs[0], integer(node, "to", 0), node),
    "CastLike": lambda node, inputs: inputs[0].astype(inputs[1].dtype),
    "Ceil": _elementwise(np.ceil),
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Cos": _elementwise(np.cos),
    "CumSum": _cumsum,
    "Div": _elementwise(_divide),
    "Equal": _elementwise(np.equal),
    "Exp": _elementwise(np.exp),
    "Floor": _elementwise(np.floor),
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "IsInf": _elementwise(np.isinf),
    "IsNaN": _elementwise(np.isnan),
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Log": _elementwise(np.log),
    "MatMul": lambda node, inputs: np.matmul(*inputs),
    "Max": _elementwise(lambda *parts: np.max(np.broadcast_arrays(*parts), axis=0)),
    "Min": _elementwise(lambda *parts: np.min(np.broadcast_arrays(*parts), axis=0)),
    "Mod": _elementwise(np.mod),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Not": _elementwise(np.logical_not),
    "Or": _elementwise(np.logical_or),
    "Pow": _elementwise(lambda a, b: np.power(a, b).astype(a.dtype)),
    "Range": _range,
    "Reciprocal": _elementwise(lambda a: 1 / a),
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ScatterND": _scatter_nd,
    "Sign": _elementwise(np.sign),
    "Sin": _elementwise(np.sin),
    "Sqrt": _elementwise(np.sqrt),
    "Sub": _elementwise(np.subtract),
    "Trilu": _trilu,
    "Where": _elementwise(np.where),
    "Xor": _elementwise(np.logical_xor),
}
