"""The `checkpoint` bundle: every check with its figures, the values behind them, a summary and two plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llorch.validation.bundle import BundleWriter, sha256_of_file
from llorch.validation.checkpoint_summary import summary
from llorch.validation.checkpoints import Outcome
from llorch.validation.dumps import MANIFEST, Reference
from llorch.validation.plots import bars, curves
from llorch.validation.tolerances import CHECKPOINTS, LAYER_ORDER, WHOLE_LAYER, Checkpoint, Tolerance

CHECKPOINTS_FILE = "checkpoints.json"
_DRIFT_FLOOR = 1e-17


def labels_of(outcomes: Sequence[Outcome]) -> list[str]:
    """A name for each outcome: its profile, numbered where a profile ran more than once."""
    labels: list[str] = []
    for outcome in outcomes:
        profile = outcome.reference.profile
        n = sum(label.split("-")[0] == profile for label in labels)
        labels.append(f"{profile}-{n + 1}" if n else profile)
    return labels


def write_checkpoint_bundle(writer: BundleWriter, outcomes: Sequence[Outcome], command: str) -> Path:
    """Write the bundle of one validation, of one or more references of the same model.

    Args:
        writer: a new bundle of kind ``"checkpoint"``.
        outcomes: at least one.
        command: the command line that reproduces it.
    """
    labels = labels_of(outcomes)
    passed = all(outcome.passed for outcome in outcomes)
    profiles = [_profile(label, outcome) for label, outcome in zip(labels, outcomes, strict=True)]
    document: dict[str, Any] = {
        "passed": passed,
        "profiles": profiles,
        "tolerances": [_tolerances(c) for c in CHECKPOINTS],
    }
    document["whole_layer"] = {profile: _tolerance(tolerance) for profile, tolerance in WHOLE_LAYER.items()}
    writer.add_json(CHECKPOINTS_FILE, document)
    for label, outcome in zip(labels, outcomes, strict=True):
        writer.add_ndjson(f"checks-{label}.ndjson", (c.to_json() for c in outcome.findings.checks))
        writer.add_npz(f"values-{label}.npz", outcome.findings.values)
    writer.add_png("drift.png", _drift_plot(labels, outcomes))
    writer.add_png("worst.png", _worst_plot(labels, outcomes))
    writer.add_summary(summary(labels, outcomes, command, writer.run_id))
    model = {"file": outcomes[0].reference.model_file, "sha256": outcomes[0].reference.model_sha256}
    return writer.write({"model": model}, passed, command)


def _profile(label: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "label": label,
        "profile": outcome.reference.profile,
        "passed": outcome.passed,
        "ours": outcome.subject_notes,
        "reference": _reference(outcome.reference),
        "rows": [row.to_json() for row in outcome.rows],
        "drift": outcome.drift,
        "greedy_runs": outcome.greedy_runs,
    }


def _reference(reference: Reference) -> dict[str, Any]:
    """Everything that says which reference it was."""
    return {
        "manifest_sha256": sha256_of_file(reference.directory / MANIFEST),
        "model_file": reference.model_file,
        "model_sha256": reference.model_sha256,
        "twin_sha256": reference.twin_sha256,
        "twin_weights_sha256": reference.twin_weights_sha256,
        "sizes": {name: getattr(reference.sizes, name) for name in reference.sizes.__slots__},
        "prompt": reference.prompt,
        "prompt_token_ids": list(reference.prompt_token_ids),
        "greedy_token_ids": list(reference.greedy_token_ids),
        "layers": list(reference.layers),
        "n_decode": reference.n_decode,
        "has_all_decode_stages": reference.has_all_decode_stages,
        "identity": reference.identity,
        "settings": reference.settings,
        "command": reference.command,
    }


def _tolerances(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "number": checkpoint.number,
        "title": checkpoint.title,
        "stages": [stage.name for stage in checkpoint.stages],
        "local": _tolerance(checkpoint.tolerance),
        "end_to_end": {profile: _tolerance(drift) for profile, drift in checkpoint.drift.items()},
    }


def _tolerance(tolerance: Tolerance) -> dict[str, Any]:
    return {name: getattr(tolerance, name) for name in ("absolute", "relative", "nmse", "reason")}


def _drift_plot(labels: Sequence[str], outcomes: Sequence[Outcome]) -> bytes:
    series, limits = {}, {}
    for label, outcome in zip(labels, outcomes, strict=True):
        points = [(d["layer"], float(d["nmse"])) for d in outcome.drift if d["run"] == "prefill"]
        series[label] = points
        nmse = CHECKPOINTS[0].drift[outcome.reference.profile].nmse
        if nmse is not None:
            limits[label] = nmse
    return curves(
        f"Drift through the layers: {outcomes[0].reference.model_file}",
        "layer (its output, prompt pass, our own values all the way)",
        "NMSE against llama.cpp",
        series,
        limits,
        _DRIFT_FLOOR,
    )


def _worst_plot(labels: Sequence[str], outcomes: Sequence[Outcome]) -> bytes:
    stages = ["inp_embd", *LAYER_ORDER, "result_norm", "result_output"]
    stages.insert(stages.index("kq"), "cache_k")
    stages.insert(stages.index("kq"), "cache_v")
    rows = []
    for stage in stages:
        shares = []
        for outcome in outcomes:
            found = [
                c.share for c in outcome.findings.checks if c.place.way == "local" and c.place.stage == stage
            ]
            shares.append(max(found) if found else math.nan)
        rows.append((stage, shares))
    return bars(
        f"Worst difference of each stage: {outcomes[0].reference.model_file}",
        "share of what is allowed: the worst of all layers and passes, stage by stage",
        rows,
        labels,
    )
