"""Products with weights, with or without a bias; rows of a product that several projections share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.errors import OnnxError
from llorch.formats.onnx.symbolic.values import Form, Matrix, Numbers, Space, Term
from llorch.quant.tensor import Placement, Tensor
from llorch.quant.types import BF16, F16, F32, QuantType

_TYPES: dict[str, QuantType] = {"float32": F32, "float16": F16, "bfloat16": BF16}


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A product of activations and a matrix.

    Attributes:
        matrix: (n_in, n_out) as the graph has it.
        input: what is multiplied.
        bias: (n_out,) what is added, or None.
        term: the activation, bias included.
    """

    matrix: Matrix
    input: Form
    bias: Numbers | None
    term: Term

    @property
    def n_out(self) -> int:
        """Rows of the matrix in GGUF's order of axes."""
        return self.matrix.shape[1]

    def rows_of(self, form: Form) -> NDArray[np.int64]:
        """The row of the matrix behind each element of a form of `term`: (n_summands, *shape)."""
        return (form.index - self.term.first) % self.n_out

    def tokens_of(self, form: Form) -> NDArray[np.int64]:
        """The token behind each element of a form of `term`: (n_summands, *shape)."""
        return (form.index - self.term.first) // self.n_out


def product_of(space: Space, form: Form) -> Product | None:
    """The product of which all elements of a form come; None if they come of anything else."""
    term = space.only(form)
    if term is None:
        return None
    bias: Numbers | None = None
    product = term
    if term.op == "Add":
        inner, added = term.operands
        found = space.whole(inner) if isinstance(inner, Form) else None
        if found is None or not isinstance(added, np.ndarray) or found.shape != term.shape:
            return None
        product, bias = found, np.ravel(added)
    if product.op != "Linear":
        return None
    multiplied, matrix = product.operands
    assert isinstance(multiplied, Form)
    assert isinstance(matrix, Matrix)
    if bias is not None and bias.size != matrix.shape[1]:
        return None
    return Product(matrix, multiplied, bias, term)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A weight: rows of the matrix of a product, in GGUF's order."""

    product: Product
    rows: NDArray[np.int64]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The weight where it lies in the file, and its bias, by GGUF name."""
        product = self.product
        found = {f"{name}.weight": matrix_tensor(f"{name}.weight", product.matrix, self.rows)}
        if product.bias is not None:
            found[f"{name}.bias"] = vector_tensor(f"{name}.bias", product.bias[self.rows])
        return found


def straight_rows(product: Product, form: Form) -> NDArray[np.int64] | None:
    """The rows that a form (1, tokens, n) has of a product, the same for each token; None if it is no such form."""
    if len(form.index) != 1 or (form.factor is not None and not (form.factor == 1).all()):
        return None
    width = form.shape[-1]
    rows, tokens = (found.reshape(-1, width) for found in (product.rows_of(form), product.tokens_of(form)))
    if (rows != rows[0]).any() or (tokens != np.arange(len(tokens))[:, None]).any():
        return None
    first: NDArray[np.int64] = rows[0]
    return first


def matrix_tensor(name: str, matrix: Matrix, rows: NDArray[np.int64] | None = None) -> Tensor:
    """Rows of a stored matrix under a GGUF name.

    Args:
        name: GGUF name.
        matrix: (n_in, n_out) as the graph has it.
        rows: which rows; None for all, in order.

    Raises:
        OnnxError: the numbers are of a type that llorch does not compute with.
    """
    stored = matrix.tensor
    n_in, n_stored = matrix.shape
    if stored.dtype not in _TYPES:
        raise OnnxError(
            f"initializer {stored.name!r} has values of the type {stored.dtype}, expected {', '.join(_TYPES)}"
        )
    wanted = np.arange(n_stored) if rows is None else rows
    is_transposed = not matrix.is_flipped
    is_plain = len(wanted) == n_stored and not is_transposed and bool((wanted == np.arange(n_stored)).all())
    placement = None if is_plain else Placement(wanted.astype(np.int32), n_stored, is_transposed)
    return Tensor(name, _TYPES[stored.dtype], (len(wanted), n_in), stored.data, placement)


def vector_tensor(name: str, values: Numbers) -> Tensor:
    """A vector under a GGUF name, as float32."""
    numbers = np.ascontiguousarray(values, np.float32)
    return Tensor(name, F32, numbers.shape, numbers.view(np.uint8))
