"""What the values of a tensor are like, in a few numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.validation.compare import causal
from llorch.validation.records import Count, Figure, Record
from llorch.validation.tolerances import stage_key


class TensorStatistics(Record):
    """Statistics of one tensor.

    Attributes:
        shape: of the whole tensor.
        min, max, mean, rms: over its finite values; None without any. Sums are taken in float64.
        zeros: share of its values that are 0.
        n_nan, n_inf: how many are no numbers, or infinite.
    """

    shape: tuple[int, ...]
    min: Figure | None
    max: Figure | None
    mean: Figure | None
    rms: Figure | None
    zeros: Figure
    n_nan: Count
    n_inf: Count


def statistics_of(values: NDArray[Any], where: NDArray[np.bool_] | None = None) -> TensorStatistics:
    """Statistics of a real tensor.

    Args:
        values: any shape.
        where: bool, broadcastable to it; what is False there does not count.
    """
    counted = values if where is None else values[np.broadcast_to(where, values.shape)]
    finite = counted[np.isfinite(counted)].astype(np.float64)
    n_nan = int(np.count_nonzero(np.isnan(counted)))
    has_any = finite.size > 0
    return TensorStatistics(
        shape=values.shape,
        min=float(finite.min()) if has_any else None,
        max=float(finite.max()) if has_any else None,
        mean=float(finite.mean()) if has_any else None,
        rms=math.sqrt(float(np.square(finite).mean())) if has_any else None,
        zeros=float(np.count_nonzero(counted == 0)) / max(counted.size, 1),
        n_nan=n_nan,
        n_inf=counted.size - finite.size - n_nan,
    )


class StatisticsProbe:
    """A probe that takes the statistics of every named intermediate; of scores, those that the mask leaves.

    Attributes:
        found: by pass, then by ``"name-layer"``.
    """

    def __init__(self) -> None:
        self.found: dict[str, dict[str, TensorStatistics]] = {}
        self._run, self._position = "", 0

    def begin(self, run: str, position: int) -> None:
        """What is tapped from now on belongs to this pass; `position` is that of its first token."""
        self._run, self._position = run, position
        self.found[run] = {}

    def wants(self, name: str, layer: int) -> bool:
        """Everything."""
        return True

    def tap(self, name: str, layer: int, value: NDArray[np.float32]) -> None:
        """Look at a value."""
        is_score = name in ("kq", "kq_soft_max")
        mask = causal(value.shape[-2], self._position, value.shape[-1]) if is_score else None
        self.found[self._run][stage_key(name, layer)] = statistics_of(value, mask)
