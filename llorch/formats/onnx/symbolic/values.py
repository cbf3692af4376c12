"""What a value of the graph is while it is read: numbers, a stored matrix, or numbers picked from activations.

Moving, picking, negating and scaling of activations is kept as numbers: each element of a `Form` says which elements
of which activations it adds up, and with which factors. So every spelling of a rotation, of the repetition of heads
or of a split gives the same form, and the patterns look at operations only where something is computed.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llorch.formats.onnx.graph import Node, OnnxTensor

Numbers: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """A matrix among the constants, not read yet.

    Attributes:
        tensor: as it is stored.
        is_flipped: whether the value is the transposed one.
    """

    tensor: OnnxTensor
    is_flipped: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value."""
        return self.tensor.shape[::-1] if self.is_flipped else self.tensor.shape

    def flipped(self) -> Matrix:
        """The transposed matrix."""
        return Matrix(self.tensor, not self.is_flipped)


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """An activation that an operation computes.

    Attributes:
        op: what computes it.
        operands: of the operation.
        shape: of the activation.
        node: of the graph.
        value: the graph's name of the activation; empty inside of a fused operation.
        first: number of its first element; no two terms share one.
        constant: epsilon, or axis, where the operation has one.
    """

    op: str
    operands: tuple[Value, ...]
    shape: tuple[int, ...]
    node: Node
    value: str
    first: int
    constant: float = 0.0

    @property
    def end(self) -> int:
        """Number after that of the last element."""
        return self.first + math.prod(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """Elements that are sums of a few scaled elements of terms.

    Attributes:
        index: int64 (n_summands, *shape), the numbers of the elements.
        factor: float64, of the same shape; None for all 1.
    """

    index: NDArray[np.int64]
    factor: NDArray[np.float64] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value."""
        return self.index.shape[1:]

    @property
    def factors(self) -> NDArray[np.float64]:
        """`factor`, written out."""
        return np.ones(self.index.shape) if self.factor is None else self.factor

    def moved(self, move: Callable[[Numbers], Numbers]) -> Form:
        """The form whose elements `move` puts elsewhere."""
        index = np.stack([move(part) for part in self.index])
        return Form(index, None if self.factor is None else np.stack([move(part) for part in self.factor]))

    def scaled(self, by: Numbers) -> Form:
        """The product with numbers."""
        shape = np.broadcast_shapes(self.shape, by.shape)
        move = lambda part: np.broadcast_to(part, shape)  # noqa: E731
        wide = self.moved(move)
        return Form(wide.index, wide.factors * by)

    def flat(self, *shape: int) -> Form:
        """The form in another shape."""
        return self.moved(lambda part: part.reshape(shape))


Value: TypeAlias = Numbers | Matrix | Form


def inside(node: Node) -> Node:
    """A node for what it computes on the way to its outputs, which has no name in the graph."""
    return replace(node, outputs=("",))


def summed(a: Form, b: Form) -> Form:
    """Sum of two forms; summands with factor 0 are dropped where all elements have one."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    parts = [form.moved(lambda part: np.broadcast_to(part, shape)) for form in (a, b)]
    return _tidy(
        np.concatenate([part.index for part in parts]), np.concatenate([part.factors for part in parts])
    )


def joined(forms: list[Form], axis: int) -> Form:
    """Forms one after the other."""
    most = max(len(form.index) for form in forms)
    index = [np.concatenate([f.index, np.repeat(f.index[:1], most - len(f.index), axis=0)]) for f in forms]
    axis += 1 if axis >= 0 else 0
    if most == 1 and all(form.factor is None for form in forms):
        return Form(np.concatenate(index, axis))
    factors = [np.concatenate([f.factors, np.zeros((most - len(f.index), *f.shape))]) for f in forms]
    return _tidy(np.concatenate(index, axis), np.concatenate(factors, axis))


def _tidy(index: NDArray[np.int64], factor: NDArray[np.float64]) -> Form:
    order = np.argsort(factor == 0, axis=0, kind="stable")
    index, factor = np.take_along_axis(index, order, 0), np.take_along_axis(factor, order, 0)
    used = max(1, int((factor != 0).any(axis=tuple(range(1, factor.ndim))).sum()))
    return Form(index[:used], factor[:used])


@dataclass(slots=True)
class Space:
    """All terms, found by the numbers of their elements."""

    terms: list[Term] = field(default_factory=list)
    _firsts: list[int] = field(default_factory=list)

    def add(
        self,
        op: str,
        operands: Iterable[Value],
        shape: tuple[int, ...],
        node: Node,
        value: str = "",
        constant: float = 0.0,
    ) -> Form:
        """A new term, as a form."""
        first = self.terms[-1].end if self.terms else 0
        term = Term(op, tuple(operands), shape, node, value, first, constant)
        self.terms.append(term)
        self._firsts.append(first)
        return Form(np.arange(first, term.end).reshape(1, *shape))

    def term_of(self, number: int) -> Term:
        """The term to which an element belongs."""
        return self.terms[bisect.bisect_right(self._firsts, number) - 1]

    def only(self, form: Form) -> Term | None:
        """The term of which all elements of a form come; None if there are several."""
        if not form.index.size:
            return None
        term = self.term_of(int(form.index.min()))
        return term if int(form.index.max()) < term.end else None

    def touched(self, form: Form) -> set[int]:
        """First numbers of all terms of which elements come."""
        places = np.searchsorted(np.asarray(self._firsts), form.index.ravel(), side="right") - 1
        return {self._firsts[place] for place in np.unique(places)}

    def whole(self, form: Form) -> Term | None:
        """The term that a form is, in whatever shape; None if it is anything else than one term as it is."""
        term = self.only(form)
        if term is None or len(form.index) != 1 or form.index.size != term.end - term.first:
            return None
        if form.factor is not None and not (form.factor == 1).all():
            return None
        return term if (form.index.ravel() == np.arange(term.first, term.end)).all() else None


def same(a: Value, b: Value) -> bool:
    """Whether two forms are the same numbers."""
    if not (isinstance(a, Form) and isinstance(b, Form)):
        return a is b
    if a.index.shape != b.index.shape or not np.array_equal(a.index, b.index):
        return False
    return (a.factor is None and b.factor is None) or np.array_equal(a.factors, b.factors)
