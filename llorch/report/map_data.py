"""The layer × operation map of a page: times and differences of every cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llorch.report.compared import Compared
from llorch.report.producers import FUSED_OPERATIONS, STAGE_PRODUCERS, producer_of
from llorch.report.trace_file import OperationFigures, TraceSummary
from llorch.report.truth import brief
from llorch.validation.findings import WAYS, StageResult
from llorch.validation.tolerances import stage_key

_SHARE_AT_MOST = 1e9

Cells = dict[tuple[str, int], dict[str, Any]]


def map_data(trace: TraceSummary | None, compared: Sequence[Compared]) -> dict[str, Any]:
    """The map, as JSON.

    Args:
        trace: has the times; without it there are differences alone.
        compared: results against references, with unique labels.

    Returns:
        `operations` and `layers` in order, `profiles`, `ways`, and `cells`: for each `operation` and `layer` its `time`
        (or None) and its `tensors`, each with `statistics` (or None) and what was `found`, by profile and way.
    """
    labels = _labels_by_layer(trace, compared)
    cells: Cells = {}
    for layer, operations in labels.items():
        for label in operations:
            time = trace and trace.operations.get(label, {}).get(str(layer))
            cells[label, layer] = {
                "operation": label,
                "layer": layer,
                "time": _time(time) if time else None,
                "tensors": _tensors(layer, label, operations, compared),
            }
    names = list(trace.operations) if trace else FUSED_OPERATIONS
    return {
        "operations": [name for name in names if any(label == name for label, _ in cells)],
        "layers": sorted(labels),
        "profiles": [result.label for result in compared],
        "ways": dict(WAYS),
        "cells": list(cells.values()),
    }


def _labels_by_layer(trace: TraceSummary | None, compared: Sequence[Compared]) -> Mapping[int, Sequence[str]]:
    """The operations of each layer; without a trace those of the program for speed that something was compared of."""
    labels: dict[int, list[str]] = {}
    if trace:
        for label, of_layer in trace.operations.items():
            for layer in of_layer:
                labels.setdefault(int(layer), []).append(label)
        return labels
    for result in compared:
        for stage, number, _ in result.worst:
            producer = producer_of(stage, FUSED_OPERATIONS)
            found = labels.setdefault(number, [])
            if producer and producer not in found:
                found.append(producer)
    return labels


def _time(figures: OperationFigures) -> dict[str, Any]:
    rates = {"gb_s": _rate(figures.bytes, figures), "gmac_s": _rate(figures.macs, figures)}
    return figures.model_dump(mode="json") | rates


def _rate(amount: float, figures: OperationFigures) -> float | None:
    """Billions per second; None where that says nothing."""
    rate = amount / figures.seconds / 1e9 if figures.seconds and amount else math.inf
    return rate if math.isfinite(rate) else None


def _tensors(
    layer: int, label: str, operations: Sequence[str], compared: Sequence[Compared]
) -> list[dict[str, Any]]:
    tensors = []
    for stage in STAGE_PRODUCERS:
        if producer_of(stage, operations) != label:
            continue
        key = stage_key(stage, layer)
        found: dict[str, dict[str, Any]] = {}
        statistics = None
        for result in compared:
            ways = {way: result.worst.get((stage, layer, way)) for way in WAYS}
            of_ways: dict[str, Any] = {way: _found(worst) for way, worst in ways.items() if worst}
            if of_ways:
                found[result.label] = of_ways
            statistics = statistics or result.statistics.get(key)
        if found or statistics:
            shown = statistics and statistics.model_dump(mode="json")
            tensors.append({"name": key, "statistics": shown, "found": found})
    return tensors


def _found(result: StageResult) -> dict[str, Any]:
    """`brief`, with the share of the tolerance that was used up; JSON lacks an infinite one, and NaN."""
    share = result.share
    return {**brief(result), "share": max(share, 0.0) if share <= _SHARE_AT_MOST else _SHARE_AT_MOST}
