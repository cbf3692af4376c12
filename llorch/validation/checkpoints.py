"""The twelve checkpoints of one reference, in the order in which a fault would show first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from llorch.progress import Progress, ignore_progress
from llorch.validation.dumps import Reference
from llorch.validation.findings import WAYS, Findings, StageResult, Way
from llorch.validation.records import Record
from llorch.validation.result_checks import check_results
from llorch.validation.stage_checks import check_stages
from llorch.validation.subject import Subject
from llorch.validation.tolerances import CHECKPOINTS

Verdict = Literal["pass", "fail", "skipped"]
_OF_THE_RESULT = ("9", "10", "12")
"""These judge the engine's own result, end to end; all others are taken in both ways."""


class TableRow(Record):
    """One checkpoint in one way, over all its stages, layers and passes.

    Attributes:
        reason: why it was skipped; else the note of the result that decided.
        n_checks: how many results there are.
        worst: the first that failed, else the one that used up most of its tolerance; None without any.
    """

    number: str
    title: str
    way: Way
    verdict: Verdict
    reason: str
    n_checks: int
    worst: StageResult | None


def table_of(results: Iterable[StageResult]) -> list[TableRow]:
    """The table: every checkpoint in every way it can be taken."""
    titles = {checkpoint.number: checkpoint.title for checkpoint in CHECKPOINTS}
    of_row: dict[tuple[str, Way], list[StageResult]] = {
        (number, way): []
        for number in titles
        for way in WAYS
        if way != "local" or number not in _OF_THE_RESULT
    }
    for result in results:
        of_row[result.checkpoint, result.way].append(result)
    rows = []
    for (number, way), found in of_row.items():
        failed = next((result for result in found if result.verdict == "fail"), None)
        used_up = max(
            found, key=lambda r: (r.share, r.comparison.max_abs if r.comparison else 0), default=None
        )
        worst = failed or used_up
        row = TableRow(
            number=number,
            title=titles[number],
            way=way,
            verdict=worst.verdict if worst else "skipped",
            reason=worst.note if worst else "not reached: an earlier stage failed",
            n_checks=len(found),
            worst=worst,
        )
        rows.append(row)
    return rows


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What the validation against one reference found.

    Attributes:
        subject_notes: what `Subject` says about itself.
        findings: every result and its values.
        greedy_runs: ids and hash of each run of checkpoint 12.
    """

    reference: Reference
    subject_notes: dict[str, Any]
    findings: Findings
    greedy_runs: list[dict[str, Any]]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.findings.first_failure is None

    @property
    def rows(self) -> list[TableRow]:
        """The table."""
        return table_of(self.findings.results)

    def lines(self) -> Iterator[tuple[str, str, list[TableRow | None]]]:
        """The table as people read it: number, title, and one cell per way; None where there is no such way."""
        rows = {(row.number, row.way): row for row in self.rows}
        for checkpoint in CHECKPOINTS:
            yield checkpoint.number, checkpoint.title, [rows.get((checkpoint.number, way)) for way in WAYS]

    def drift(self) -> list[dict[str, Any]]:
        """How far the residual stream is from the reference's after each layer, nothing replaced on the way."""
        return [
            {
                "run": result.run,
                "layer": result.layer,
                **result.comparison.model_dump(mode="json", include=_DRIFT),
            }
            for result in self.findings.results
            if result.way == "end_to_end" and result.stage == "l_out" and result.comparison
        ]


_DRIFT = {"nmse", "max_abs", "relative"}


def validate(
    subject: Subject, reference: Reference, *, goes_on: bool = False, progress: Progress = ignore_progress
) -> ValidationResult:
    """Hold a model, opened for this reference, against it; `goes_on` compares everything even after a failure."""
    findings = Findings(stops_at_first=not goes_on)
    runs: list[dict[str, Any]] = []
    check_stages(subject, reference, findings, "local", progress)
    if not findings.is_stopped:
        own = check_stages(subject, reference, findings, "end_to_end", progress)
        runs = check_results(subject, reference, findings, own, progress)
    return ValidationResult(reference, subject.notes, findings, runs)


def labelled(results: Iterable[ValidationResult]) -> dict[str, ValidationResult]:
    """Results by name: the profile, numbered where a profile ran more than once."""
    named: dict[str, ValidationResult] = {}
    for result in results:
        profile = result.reference.profile
        n = sum(label.split("-")[0] == profile for label in named)
        named[f"{profile}-{n + 1}" if n else profile] = result
    return named
