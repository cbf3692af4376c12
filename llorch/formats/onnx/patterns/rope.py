"""RoPE, in whatever spelling: which components turn together, and how fast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.formats.onnx.patterns.linear import Product, Rows
from llorch.formats.onnx.patterns.refusal import unlike_llama
from llorch.formats.onnx.symbolic.values import Form, Space

_TOLERANCE = 2e-3
"""Of cosines and sines; tables are stored in half precision, too."""


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """What RoPE does to the heads of a projection.

    Attributes:
        order: which component of a head stands in each place of GGUF's: pairs side by side, then what does not turn.
        frequencies: float64 (pairs,), angles per position.
        magnitude: factor on all components.
        own: (heads, width) rows of the product, in the graph's order of components.
    """

    order: NDArray[np.int64]
    frequencies: NDArray[np.float64]
    magnitude: float
    own: NDArray[np.int64]

    def rows(self, product: Product, n_shared: int = 1) -> Rows:
        """The weight in GGUF's order of rows, of every `n_shared`-th head."""
        return Rows(product, self.own[::n_shared, self.order].ravel())


def rotation_of(space: Space, form: Form, product: Product, what: str) -> Rotation:
    """The rotation of a form (heads, tokens, width) whose first token stands at position 0.

    Raises:
        OnnxError: it is something else than RoPE.
    """
    expected = f"the rotated {what} (RoPE)"
    if len(form.index) != 2 or form.shape[1] < 2:
        raise unlike_llama(space, form, expected)
    row, factor = product.rows_of(form), form.factors
    own = row[0][:, 0]
    is_own = row[0][:, 1] == own
    other = np.where(is_own, row[1][:, 1], row[0][:, 1])
    straight = np.where(is_own, factor[0][:, 1], factor[1][:, 1])
    across = np.where(is_own, factor[1][:, 1], factor[0][:, 1])
    place = {int(number): i for i, number in enumerate(own[0])}
    firsts = np.flatnonzero(across[0] < 0)
    seconds = np.array([place.get(int(number), -1) for number in other[0, firsts]], np.int64)
    rest = np.flatnonzero(across[0] == 0)
    order = np.concatenate([np.stack([firsts, seconds], 1).ravel(), rest])
    if len(firsts) == 0 or not np.array_equal(np.sort(order), np.arange(form.shape[2])):
        raise unlike_llama(space, form, expected)
    found = Rotation(
        order, np.arctan2(-across[0, firsts], straight[0, firsts]), float(factor[0, 0, 0, 0]), own
    )
    check_rotation(space, form, product, found, 0, what)
    return found


def check_rotation(
    space: Space, form: Form, product: Product, rotation: Rotation, first: int, what: str
) -> None:
    """Refuse a form (heads, tokens, width) that is not this rotation at the positions from `first` on.

    Raises:
        OnnxError: it is not.
    """
    expected = f"the rotated {what} (RoPE), every head alike, at angles that grow with the position"
    n_heads, n, width = form.shape
    n_pairs = len(rotation.frequencies)
    a, b = rotation.order[: 2 * n_pairs : 2], rotation.order[1 : 2 * n_pairs : 2]
    if rotation.own.shape != (n_heads, width):
        raise unlike_llama(space, form, expected)
    partner = rotation.own.copy()
    partner[:, a], partner[:, b] = rotation.own[:, b], rotation.own[:, a]
    angles = np.arange(first, first + n)[:, None] * rotation.frequencies
    straight, across = np.ones((n, width)), np.zeros((n, width))
    straight[:, a] = straight[:, b] = np.cos(angles)
    across[:, a], across[:, b] = -np.sin(angles), np.sin(angles)
    rows, tokens, factor = product.rows_of(form), product.tokens_of(form), form.factors
    turned = rotation.order[: 2 * n_pairs]
    is_own, is_partner = rows == rotation.own[:, None], rows == partner[:, None]
    is_partner[..., np.setdiff1d(np.arange(width), turned)] = False
    strange = factor * ~(is_own | is_partner) + factor * (tokens != np.arange(n)[:, None])
    found = np.stack([(factor * is_own).sum(0), (factor * is_partner).sum(0)]) / rotation.magnitude
    if np.abs(found - np.stack([straight, across])[:, None]).max() > _TOLERANCE or strange.any():
        raise unlike_llama(space, form, expected)
