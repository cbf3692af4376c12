"""The `checkpoint` bundle: every result with its figures, the values behind them, a summary and two pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llorch.bench import plots
from llorch.validation.bundle_writer import GENERATED_BY, BundleWriter
from llorch.validation.checkpoint_summary import summary
from llorch.validation.checkpoints import ValidationResult
from llorch.validation.dumps import MANIFEST, Reference
from llorch.validation.records import sha256_of_file
from llorch.validation.tolerances import CHECKPOINTS, LAYER_ORDER, WHOLE_LAYER

CHECKPOINTS_FILE = "checkpoints.json"
_DRIFT_FLOOR = 1e-17


def write_checkpoint_bundle(
    writer: BundleWriter, results: Mapping[str, ValidationResult], command: str
) -> Path:
    """Write the bundle of one validation, of one or more references of the same model.

    Args:
        writer: a new bundle of kind ``"checkpoint"``.
        results: at least one, by label (see `labelled`).
        command: the command line that reproduces it.
    """
    passed = all(result.passed for result in results.values())
    first = next(iter(results.values())).reference.manifest.model
    document = {
        "passed": passed,
        "profiles": [_profile(label, result) for label, result in results.items()],
        "tolerances": [
            {
                "number": checkpoint.number,
                "title": checkpoint.title,
                "stages": list(checkpoint.stages),
                "local": checkpoint.tolerance.model_dump(),
                "end_to_end": {profile: drift.model_dump() for profile, drift in checkpoint.drift.items()},
            }
            for checkpoint in CHECKPOINTS
        ],
        "whole_layer": {profile: tolerance.model_dump() for profile, tolerance in WHOLE_LAYER.items()},
    }
    writer.add_json(CHECKPOINTS_FILE, document)
    for label, result in results.items():
        rows = (found.model_dump(mode="json") for found in result.findings.results)
        writer.add_ndjson(f"checks-{label}.ndjson", rows)
        writer.add_npz(f"values-{label}.npz", result.findings.values)
    pictures = {
        "drift.png": _drift_picture(first.file, results),
        "worst.png": _worst_picture(first.file, results),
    }
    for name, picture in pictures.items():
        if picture is not None:
            writer.add_png(name, picture)
    has_pictures = None not in pictures.values()
    writer.add_summary(lambda run_id: summary(results, command, run_id, has_pictures=has_pictures))
    return writer.write({"model": {"file": first.file, "sha256": first.sha256}}, passed, command)


def _profile(label: str, result: ValidationResult) -> dict[str, Any]:
    return {
        "label": label,
        "profile": result.reference.profile,
        "passed": result.passed,
        "ours": result.subject_notes,
        "reference": _reference(result.reference),
        "rows": [row.model_dump(mode="json") for row in result.rows],
        "drift": result.drift(),
        "greedy_runs": result.greedy_runs,
    }


def _reference(reference: Reference) -> dict[str, Any]:
    """Everything that says which reference it was."""
    manifest = reference.manifest
    return {
        "manifest_sha256": sha256_of_file(reference.directory / MANIFEST),
        "model_file": manifest.model.file,
        "model_sha256": manifest.model.sha256,
        "twin_sha256": manifest.twin and manifest.twin.sha256,
        "twin_weights_sha256": manifest.twin and manifest.twin.weights_sha256,
        "sizes": dict(manifest.model.sizes),
        "prompt": manifest.prompt.text,
        "prompt_token_ids": list(manifest.prompt.token_ids),
        "greedy_token_ids": list(manifest.greedy.token_ids),
        "layers": list(manifest.layers),
        "n_decode": manifest.n_decode,
        "has_all_decode_stages": reference.has_all_decode_stages,
        "identity": manifest.reference,
        "settings": manifest.settings,
        "command": manifest.command,
    }


def _drift_picture(file: str, results: Mapping[str, ValidationResult]) -> bytes | None:
    limits = {label: CHECKPOINTS[0].drift[result.reference.profile].nmse for label, result in results.items()}
    return plots.curves(
        f"Drift through the layers: {file}",
        "layer (its output, prompt pass, our own values all the way)",
        "NMSE against the reference",
        {
            label: [
                (point["layer"], float(point["nmse"]))
                for point in result.drift()
                if point["run"] == "prefill"
            ]
            for label, result in results.items()
        },
        {label: nmse for label, nmse in limits.items() if nmse is not None},
        _DRIFT_FLOOR,
        GENERATED_BY,
    )


def _worst_picture(file: str, results: Mapping[str, ValidationResult]) -> bytes | None:
    shares: dict[tuple[str, str], float] = {}
    for label, result in results.items():
        for found in result.findings.results:
            if found.way == "local":
                at = found.stage, label
                shares[at] = max(found.share, shares.get(at, 0.0))
    scores = LAYER_ORDER.index("kq")
    stages = ["inp_embd", *LAYER_ORDER[:scores], "cache_k", "cache_v", *LAYER_ORDER[scores:]]
    stages += ["result_norm", "result_output"]

    def bar(stage: str, label: str) -> plots.Bar | None:
        share = shares.get((stage, label))
        return None if share is None else plots.Bar(share, "" if share else "exact")

    return plots.bars(
        f"Worst difference of each stage: {file}",
        "share of what is allowed: the worst of all layers and passes, stage by stage",
        [(stage, [bar(stage, label) for label in results]) for stage in stages],
        list(results),
        x_range=(1e-6, 4.0),
        x_text=lambda share: f"{100 * share:g} %",
        note=GENERATED_BY,
        limit=1.0,
    )
