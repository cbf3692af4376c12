"""Totals of every operation of every layer, added up step by step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llorch.trace.operations import Operation
from llorch.trace.records import StepRecord

if TYPE_CHECKING:  # it would bring the compiler
    from llorch.bench.roofline import Roofline


class OperationTotals:
    """By label and layer; seconds are those from first begin to last end.

    Args:
        roofline: of this machine, if it was measured.
    """

    def __init__(self, roofline: Roofline | None = None) -> None:
        self._roofline = roofline
        self._totals: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._least_s: dict[tuple[str, str], float] = defaultdict(float)

    def add(self, operations: Iterable[Operation]) -> None:
        """Add the operations of a step."""
        for operation in operations:
            label, layer, work = operation.label, str(operation.layer), operation.work
            total = self._totals[label].setdefault(layer, {"seconds": 0.0, "n": 0})
            total["seconds"] += (operation.ended_ns - operation.begun_ns) / 1e9
            total["n"] += 1
            if work is not None:
                total["bytes"] = total.get("bytes", 0) + work.n_bytes
                total["macs"] = total.get("macs", 0) + work.n_macs
                if self._roofline is not None:
                    self._least_s[label, layer] += self._roofline.seconds(work)

    def as_json(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Label to layer to `seconds`, `n` and, where the work is known, `bytes`, `macs` and `roofline`."""
        for (label, layer), least_s in self._least_s.items():
            total = self._totals[label][layer]
            if total["seconds"] > 0:
                total["roofline"] = least_s / total["seconds"]
        return {label: dict(layers) for label, layers in self._totals.items()}


def about_step(begun_ns: int, step: StepRecord) -> dict[str, float]:
    """What ``steps`` says of a step: when it began, in seconds since `begun_ns`, and how long it took."""
    return {
        "begun": (step.begun_ns - begun_ns) / 1e9,
        "rows": step.n_rows,
        "seconds": (step.ended_ns - step.begun_ns) / 1e9,
    }
