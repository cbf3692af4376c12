"""The twelve checkpoints of one reference, in the order in which a fault would show first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llorch.progress import Progress, ignore_progress
from llorch.validation.dumps import Reference
from llorch.validation.findings import WAYS, Findings, StageResult, Verdict, Way
from llorch.validation.records import Record
from llorch.validation.result_checks import check_greedy, check_last_row, check_most_likely, check_softmax
from llorch.validation.stage_checks import check_stages
from llorch.validation.subject import Subject
from llorch.validation.tolerances import CHECKPOINTS, Checkpoint

_STOPPED = "not reached: an earlier stage failed"


class TableRow(Record):
    """One checkpoint in one way, over all its stages, layers and passes.

    Attributes:
        number, title: of the checkpoint.
        way: stage by stage or end to end.
        verdict: the worst of its results.
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

    @classmethod
    def of(cls, checkpoint: Checkpoint, way: Way, results: Sequence[StageResult]) -> TableRow:
        """The row of one checkpoint's results."""
        failed = next((result for result in results if result.verdict == "fail"), None)
        used_up = max(
            results, key=lambda r: (r.share, r.comparison.max_abs if r.comparison else 0.0), default=None
        )
        worst = failed or used_up
        return cls(
            number=checkpoint.number,
            title=checkpoint.title,
            way=way,
            verdict=worst.verdict if worst else "skipped",
            reason=worst.note if worst else _STOPPED,
            n_checks=len(results),
            worst=worst,
        )


def ways_of(checkpoint: Checkpoint) -> tuple[Way, ...]:
    """Checkpoints 9, 10 and 12 judge the engine's own result; all others are taken in both ways."""
    return ("end_to_end",) if checkpoint.number in ("9", "10", "12") else ("local", "end_to_end")


def table_of(results: Iterable[StageResult]) -> list[TableRow]:
    """The table: every checkpoint in every way it can be taken."""
    of_row: dict[tuple[str, Way], list[StageResult]] = {}
    for result in results:
        of_row.setdefault((result.checkpoint, result.way), []).append(result)
    return [TableRow.of(c, way, of_row.get((c.number, way), [])) for c in CHECKPOINTS for way in ways_of(c)]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What the validation against one reference found.

    Attributes:
        reference: the dump.
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
        points = []
        for result in self.findings.results:
            if result.way == "end_to_end" and result.stage == "l_out" and result.comparison:
                figures = result.comparison.model_dump(mode="json")
                point = {key: figures[key] for key in ("nmse", "max_abs", "relative")}
                points.append({"run": result.run, "layer": result.layer, **point})
        return points


def validate(
    subject: Subject, reference: Reference, *, goes_on: bool = False, progress: Progress = ignore_progress
) -> ValidationResult:
    """Hold the engine against a reference.

    Args:
        subject: a model opened for this reference.
        reference: the dump.
        goes_on: compare everything even after a failure.
        progress: called with what is being done, how much of it is done, and of how much.
    """
    findings = Findings(stops_at_first=not goes_on)
    runs: list[dict[str, Any]] = []
    check_stages(subject, reference, findings, "local", progress)
    own = {} if findings.is_stopped else check_stages(subject, reference, findings, "end_to_end", progress)
    steps: list[Callable[[], Any]] = [
        lambda: check_last_row(subject, reference, findings, own),
        lambda: check_most_likely(reference, findings, own),
        lambda: check_softmax(reference, findings, own),
        lambda: runs.extend(check_greedy(subject, reference, findings, own, progress)),
    ]
    for step in steps:
        if not findings.is_stopped:
            step()
    return ValidationResult(reference, subject.notes, findings, runs)


def labelled(results: Iterable[ValidationResult]) -> dict[str, ValidationResult]:
    """Results by name: the profile, numbered where a profile ran more than once."""
    named: dict[str, ValidationResult] = {}
    for result in results:
        profile = result.reference.profile
        n = sum(label.split("-")[0] == profile for label in named)
        named[f"{profile}-{n + 1}" if n else profile] = result
    return named
