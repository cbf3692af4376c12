"""A model held against one reference, from a trace file or from a bundle: what a page shows of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llorch.report.statistics import TensorStatistics
from llorch.report.truth import TruthRecord, worst_of_passes
from llorch.validation.checkpoints import TableRow
from llorch.validation.findings import StageResult, Way


@dataclass(frozen=True, slots=True)
class Compared:
    """Results against one reference.

    Attributes:
        label: the profile, numbered where there are several; in a page unique.
        against: which program, its version and commit.
        n_layer: layers of the model.
        layers: those that the reference holds in full.
        rows: the table of checkpoints.
        worst: of each stage, layer and way the result that decides.
        statistics: of our tensors by ``"name-layer"``; empty where none were taken.
    """

    label: str
    against: str
    passed: bool
    n_layer: int
    layers: tuple[int, ...]
    rows: tuple[TableRow, ...]
    worst: Mapping[tuple[str, int, Way], StageResult]
    statistics: Mapping[str, TensorStatistics] = field(default_factory=dict)

    @classmethod
    def from_trace(cls, truth: TruthRecord) -> Compared:
        """What a trace file keeps."""
        origin = truth.reference
        return cls(
            label=truth.profile,
            against=origin.program,
            passed=truth.passed,
            n_layer=origin.n_layer,
            layers=origin.layers,
            rows=truth.rows,
            worst=_within_layers(truth.results, origin.n_layer),
            statistics=truth.statistics,
        )

    @classmethod
    def from_results(
        cls, label: str, against: str, passed: bool, n_layer: int, layers: tuple[int, ...],
        rows: tuple[TableRow, ...], results: Iterable[StageResult],
    ) -> Compared:  # fmt: skip
        """What a bundle keeps: every result."""
        return cls(label, against, passed, n_layer, layers, rows, _within_layers(results, n_layer))


def _within_layers(
    results: Iterable[StageResult], n_layer: int
) -> Mapping[tuple[str, int, Way], StageResult]:
    return worst_of_passes(result for result in results if -1 <= result.layer < n_layer)
