"""Operations on stored matrices: products with activations, rows of the embedding, transposition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llorch.errors import OnnxError
from llorch.formats.onnx.dtypes import DTYPES
from llorch.formats.onnx.graph import Node
from llorch.formats.onnx.symbolic.activations import added
from llorch.formats.onnx.symbolic.moves import integer, require_size
from llorch.formats.onnx.symbolic.values import Form, Matrix, Value, inside

if TYPE_CHECKING:
    from llorch.formats.onnx.symbolic.evaluation import Evaluation

_WIDE = ("float32", "float16", "bfloat16", "float64")


def of_matrices(run: Evaluation, node: Node, inputs: list[Value | None]) -> list[Value | None] | None:
    """The outputs of an operation that leaves its matrix unread; None for any other."""
    if node.domain not in ("", "com.microsoft"):
        return None
    match node.op_type, inputs:
        case "Transpose", [Matrix() as matrix] if node.attributes.get("perm", [1, 0]) == [1, 0]:
            return [matrix.flipped()]
        case "Identity", [Matrix() as matrix]:
            return [matrix]
        case "Cast", [Matrix() as matrix]:
            dtype = DTYPES.get(integer(node, "to", 0))
            return [matrix] if dtype is not None and dtype.name in _WIDE else None
        case "Gather", [Matrix() as matrix, np.ndarray() as ids] if integer(node, "axis", 0) == 0:
            return _rows(run, node, matrix, ids)
        case "MatMul", [Form() as form, Matrix() as matrix]:
            return [_linear(run, node, form, matrix)]
        case "Gemm", [Form() as form, Matrix() as matrix, *bias] if not integer(node, "transA", 0):
            if (node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)) != (1.0, 1.0):
                raise OnnxError(
                    f"{node.label}: alpha and beta other than 1 are not known in graphs of Llama models"
                )
            flipped = Matrix(matrix.tensor, matrix.is_flipped != bool(integer(node, "transB", 0)))
            given = bias[0] if bias else None
            product = _linear(run, node if given is None else inside(node), form, flipped)
            return [product if given is None else added(run.space, node, [product, given])]
    return None


def _rows(run: Evaluation, node: Node, matrix: Matrix, ids: np.ndarray) -> list[Value | None] | None:
    """Rows of the embedding table; None where others are wanted than those of the token ids."""
    wanted = run.probe.ids
    if ids.size != wanted.size or not np.array_equal(ids.ravel(), wanted.ravel()):
        return None
    shape = (*ids.shape, matrix.shape[1])
    require_size(shape, node)
    return [run.space.add("Embedding", (matrix,), shape, node, node.outputs[0])]


def _linear(run: Evaluation, node: Node, form: Form, matrix: Matrix) -> Form:
    n_in, n_out = matrix.shape
    if form.shape[-1] != n_in:
        raise OnnxError(f"{node.label}: the matrix has {n_in} inputs, but gets {form.shape[-1]} numbers")
    shape = (*form.shape[:-1], n_out)
    require_size(shape, node)
    return run.space.add("Linear", (form, matrix), shape, node, node.outputs[0])
