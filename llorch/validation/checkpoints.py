"""The twelve checkpoints of one reference, in the order in which a fault would show first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llorch.validation.dumps import Reference
from llorch.validation.findings import Check, Findings, Verdict, Way
from llorch.validation.result_checks import check_greedy, check_last_row, check_most_likely, check_softmax
from llorch.validation.stage_checks import Tell, check_end_to_end, check_locally
from llorch.validation.subject import Subject
from llorch.validation.tolerances import CHECKPOINTS, Checkpoint

STOPPED = "not reached: an earlier stage failed"


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint in one way, over all its stages, layers and passes.

    Attributes:
        checkpoint: which.
        way: stage by stage or end to end.
        verdict: the worst of its checks.
        reason: why it was skipped; else the note of the check that decided.
        n_checks: how many checks were made.
        worst: the check that failed first, else the one that used up most of its tolerance; None without any.
    """

    checkpoint: Checkpoint
    way: Way
    verdict: Verdict
    reason: str
    n_checks: int
    worst: Check | None

    def to_json(self) -> dict[str, Any]:
        """For `llorch validate --json` and bundles."""
        return {
            "number": self.checkpoint.number,
            "title": self.checkpoint.title,
            "way": self.way,
            "verdict": self.verdict,
            "reason": self.reason,
            "n_checks": self.n_checks,
            "worst": self.worst.to_json() if self.worst else None,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the validation against one reference found.

    Attributes:
        reference: the dump.
        subject_notes: how weights and prompt were made sure to be the reference's.
        findings: every check and its values.
        rows: the table.
        drift: for every layer and pass: `run`, `layer`, `nmse`, `max_abs`, `relative`, end to end.
        greedy_runs: ids and hash of each run of checkpoint 12.
    """

    reference: Reference
    subject_notes: dict[str, Any]
    findings: Findings
    rows: list[Row]
    drift: list[dict[str, Any]]
    greedy_runs: list[dict[str, Any]]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.findings.first_failure is None


def validate(
    subject: Subject,
    reference: Reference,
    *,
    goes_on: bool = False,
    on_check: Callable[[Check], None] | None = None,
    tell: Tell = lambda what, done, total: None,
) -> Outcome:
    """Hold the engine against a reference.

    Args:
        subject: a model opened for this reference.
        reference: the dump.
        goes_on: compare everything even after a failure.
        on_check: called with every check.
        tell: called with what is being done, how much of it is done, and of how much.
    """
    findings = Findings(stops_at_first=not goes_on, on_check=on_check)
    runs: list[dict[str, Any]] = []
    check_locally(subject, reference, findings, tell)
    if not findings.is_stopped:
        own = check_end_to_end(subject, reference, findings, tell)
    steps: list[Callable[[], Any]] = [
        lambda: check_last_row(subject, reference, findings, own),
        lambda: check_most_likely(reference, findings, own),
        lambda: check_softmax(reference, findings, own),
        lambda: runs.extend(check_greedy(subject, reference, findings, own, tell)),
    ]
    for step in steps:
        if not findings.is_stopped:
            step()
    notes = {
        "path": subject.path.name,
        "sha256": subject.sha256,
        "weights": subject.weights_note,
        "prompt": subject.prompt_note,
        "residence": subject.llama.residence.kind,
        "n_threads": subject.llama.n_threads,
    }
    return Outcome(reference, notes, findings, rows_of(findings), drift_of(findings), runs)


def rows_of(findings: Findings) -> list[Row]:
    """The table: every checkpoint in every way it can be taken."""
    rows = []
    for checkpoint in CHECKPOINTS:
        for way in ways_of(checkpoint):
            checks = [c for c in findings.checks if c.checkpoint == checkpoint.number and c.place.way == way]
            rows.append(_row(checkpoint, way, checks))
    return rows


def ways_of(checkpoint: Checkpoint) -> tuple[Way, ...]:
    """Checkpoints 9, 10 and 12 judge the engine's own result; all others are taken in both ways."""
    return ("end_to_end",) if checkpoint.number in ("9", "10", "12") else ("local", "end_to_end")


def _row(checkpoint: Checkpoint, way: Way, checks: list[Check]) -> Row:
    made = [check for check in checks if check.verdict != "skipped"]
    if not made:
        reason = checks[0].note if checks else STOPPED
        return Row(checkpoint, way, "skipped", reason, 0, None)
    failed = next((check for check in made if check.verdict == "fail"), None)
    worst = failed or max(made, key=lambda c: (c.share, c.comparison.max_abs if c.comparison else 0.0))
    verdict: Verdict = "fail" if failed else "pass"
    return Row(checkpoint, way, verdict, worst.note, len(made), worst)


def drift_of(findings: Findings) -> list[dict[str, Any]]:
    """How far our residual stream is from the reference's after each layer, nothing replaced on the way."""
    return [
        {
            "run": check.place.run,
            "layer": check.place.layer,
            **{key: check.comparison.to_json()[key] for key in ("nmse", "max_abs", "relative")},
        }
        for check in findings.checks
        if check.place.way == "end_to_end" and check.place.stage == "l_out" and check.comparison
    ]
