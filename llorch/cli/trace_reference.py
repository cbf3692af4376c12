"""`llorch trace --reference DIR`: the reference's prompt is traced, and held against the reference."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from llorch.cli import console
from llorch.formats.source import open_source
from llorch.model_files import resolve_model_path
from llorch.report.slice_truth import SliceTruth
from llorch.report.truth import TruthRecord, find_truth, open_reference, require_prompt
from llorch.settings import Settings
from llorch.text.tokenizer import Tokenizer
from llorch.trace.traced_run import TracedRun
from llorch.validation.checkpoint_summary import failure_lines
from llorch.validation.dumps import Reference


def reference_of_model(directory: Path, settings: Settings) -> Reference:
    """The reference in a folder; refused at once where it was made from another model.

    Raises:
        ReferenceDumpError: there is none, it was altered, or it is of another model.
    """
    reference = open_reference(directory)
    with closing(open_source(resolve_model_path(settings.model))) as source:
        reference.require_model(source.hashed()[1])
    return reference


def prompt_token_ids(
    reference: Reference | None, prompt: str | None, tokenizer: Tokenizer
) -> tuple[int, ...]:
    """What is traced: the prompt, which must be the reference's, or without one the reference's.

    Raises:
        InputError: the prompt is another than the reference's.
    """
    if prompt is None:
        assert reference is not None
        return reference.manifest.prompt.token_ids
    token_ids = tuple(tokenizer.encode(prompt))
    if reference is not None:
        require_prompt(reference, token_ids)
    return token_ids


def truth_of_trace(
    reference: Reference,
    settings: Settings,
    labels: list[tuple[str, int]],
    traced: TracedRun,
    about: dict[str, Any],
) -> tuple[SliceTruth, TruthRecord]:
    """Run the prompt again, observed, and note in `about` what was found.

    Returns:
        What the slices say of it, and what the file keeps.
    """
    with console.Progress() as progress:
        truth = find_truth(
            resolve_model_path(settings.model),
            reference,
            n_threads=settings.threads,
            residence=settings.weights,
            override_pre=settings.override_pre,
            progress=progress,
        )
    about["model"]["sha256"] = truth.validation.subject_notes["sha256"]
    record = truth.record()
    about["truth"] = record.model_dump(mode="json")
    return SliceTruth(truth, labels, traced.end.token_ids), record


def verdict_lines(truth: TruthRecord) -> list[str]:
    """What was found, for people."""
    verdict = "passed" if truth.passed else "FAILED"
    lines = [f"profile {truth.profile} against {truth.reference.program}: {verdict}"]
    failure = next((row.worst for row in truth.rows if row.verdict == "fail"), None)
    return lines + ([f"  {line}" for line in failure_lines(failure)] if failure else [])
