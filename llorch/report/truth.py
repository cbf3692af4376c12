"""A traced model held against a reference: the truth that belongs to a timeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llorch.conversation import Conversation
from llorch.errors import InputError, ReferenceDumpError
from llorch.formats.printed import printable
from llorch.progress import Progress, ignore_progress
from llorch.report.statistics import StatisticsProbe, TensorStatistics
from llorch.validation.checkpoints import TableRow, ValidationResult, validate
from llorch.validation.dumps import MANIFEST, Reference
from llorch.validation.findings import StageResult, Way
from llorch.validation.records import Record
from llorch.validation.subject import Subject, open_subject
from llorch.validation.tolerances import Profile

PROMPT_PASS = "prefill"
"""Name of the pass that computes the whole prompt; the others are ``"decode/<step>"``."""


class Origin(Record):
    """Which reference it was.

    Attributes:
        layers: those that it holds in full, of `n_layer`.
        weights: whether the file was compared as it is.
    """

    model_file: str
    model_sha256: str
    program: str
    command: str
    n_prompt_tokens: int
    n_decode: int
    layers: tuple[int, ...]
    n_layer: int
    weights: str = ""


class TruthRecord(Record):
    """What a trace file keeps of it, under `truth`.

    Attributes:
        rows: the table of checkpoints.
        results: of each stage, layer and way the worst over all passes.
        statistics: of our tensors in the prompt pass, by ``"name-layer"``.
    """

    profile: Profile
    passed: bool
    reference: Origin
    rows: tuple[TableRow, ...]
    results: tuple[StageResult, ...]
    statistics: dict[str, TensorStatistics]


@dataclass(frozen=True, slots=True)
class Truth:
    """What was found.

    Attributes:
        validation: every comparison, in both ways.
        statistics: of our own tensors, end to end, by pass and then by ``"name-layer"``.
    """

    validation: ValidationResult
    statistics: Mapping[str, Mapping[str, TensorStatistics]]

    def record(self) -> TruthRecord:
        """What goes into a file."""
        reference, results = self.validation.reference, self.validation.findings.results
        manifest, identity = reference.manifest, reference.manifest.reference
        named = (str(identity[key]) for key in ("program", "version", "commit") if identity.get(key))
        return TruthRecord(
            profile=reference.profile,
            passed=self.validation.passed,
            reference=Origin(
                model_file=manifest.model.file,
                model_sha256=manifest.model.sha256,
                program=" ".join(named),
                command=manifest.command,
                n_prompt_tokens=len(manifest.prompt.token_ids),
                n_decode=manifest.n_decode,
                layers=manifest.layers,
                n_layer=manifest.model.sizes.n_layer,
                weights=str(self.validation.subject_notes.get("weights", "")),
            ),
            rows=tuple(self.validation.rows),
            results=tuple(worst_of_passes(results).values()),
            statistics=dict(self.statistics[PROMPT_PASS]),
        )


def open_reference(directory: Path) -> Reference:
    """The reference in a folder, or in a folder of such: that of the file as it is, where there are several.

    Raises:
        ReferenceDumpError: there is none, or it cannot be used.
    """
    if (directory / MANIFEST).exists():
        return Reference.load(directory)
    found = [Reference.load(path.parent) for path in sorted(directory.glob(f"*/{MANIFEST}"))]
    if not found:
        raise ReferenceDumpError(f"{printable(directory)} holds no {MANIFEST}, and no folder in it does")
    return min(found, key=lambda reference: reference.profile != "native")


def require_prompt(reference: Reference, token_ids: Iterable[int]) -> None:
    """Refuse a prompt that is not the reference's.

    Raises:
        InputError: its ids are others.
    """
    ours, theirs = tuple(token_ids), reference.manifest.prompt.token_ids
    if ours != theirs:
        same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
        what = f"{len(ours)} against {len(theirs)}" if same is None else f"they part at token {same}"
        raise InputError(
            f"the prompt's ids are not those that {reference.directory} was run with ({what}); "
            "leave the prompt out to take the reference's"
        )


def find_truth(
    path: Path,
    reference: Reference,
    *,
    n_threads: int = 0,
    residence: str = "auto",
    override_pre: str | None = None,
    progress: Progress = ignore_progress,
) -> Truth:
    """Run a model on a reference's prompt and compare every intermediate, in both ways.

    Raises:
        ReferenceDumpError: the reference was made from another model, other weights or another prompt.
        InputError: the model cannot be used.
    """
    subject = open_subject(
        path,
        reference,
        n_threads=n_threads,
        residence=residence,
        override_pre=override_pre,
        progress=progress,
    )
    with subject.model:
        return truth_of(subject, reference, progress)


def truth_of(subject: Subject, reference: Reference, progress: Progress = ignore_progress) -> Truth:
    """The same of a model that is open."""
    result = validate(subject, reference, goes_on=True, progress=progress)
    return Truth(result, _statistics(subject, reference, progress))


def _statistics(
    subject: Subject, reference: Reference, progress: Progress
) -> dict[str, dict[str, TensorStatistics]]:
    manifest, probe = reference.manifest, StatisticsProbe()
    talk = Conversation(subject.llama, len(manifest.prompt.token_ids) + manifest.n_decode)
    for number, run in enumerate(reference.passes()):
        progress(f"statistics: {run.name}", number, manifest.n_decode + 1)
        probe.begin(run.name, run.position)
        talk.feed(run.token_ids, run.position, all_rows=True, probe=probe)
    return probe.found


def worst_of_passes(results: Iterable[StageResult]) -> dict[tuple[str, int, Way], StageResult]:
    """Of each stage, layer and way the result that decides: one that failed, else what used up most."""
    worst: dict[tuple[str, int, Way], StageResult] = {}
    for result in results:
        key = result.stage, result.layer, result.way
        if key not in worst or _weight(result) > _weight(worst[key]):
            worst[key] = result
    return worst


def _weight(result: StageResult) -> tuple[bool, float, float]:
    comparison = result.comparison
    return result.verdict == "fail", result.share, comparison.max_abs if comparison else 0.0


def brief(result: StageResult) -> dict[str, Any]:
    """The figures of a comparison for people, as JSON."""
    figures: dict[str, Any] = {
        "checkpoint": result.checkpoint,
        "pass": result.run,
        "within": result.verdict == "pass",
        "tolerance": str(result.tolerance),
    }
    if result.comparison:
        names = {"max_abs", "mean_abs", "nmse", "worst_index", "ours", "theirs"}
        figures |= result.comparison.model_dump(mode="json", include=names)
    if result.note:
        figures["note"] = result.note
    return figures
