"""The page of a `checkpoint` bundle that a reviewer reads first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llorch.bench.plots import HOW_TO_GET
from llorch.environment import environment
from llorch.validation.bundle_writer import markdown_table
from llorch.validation.checkpoints import TableRow, ValidationResult
from llorch.validation.findings import WAYS, StageResult
from llorch.validation.tolerances import CHECKPOINTS, WHOLE_LAYER


def failure_lines(result: StageResult) -> list[str]:
    """What a failed result found, for people."""
    lines = [f"checkpoint {result.checkpoint}, {WAYS[result.way]}: {result} differs"]
    if result.note:
        lines.append(result.note)
    if c := result.comparison:
        index = ", ".join(map(str, c.worst_index))
        lines.append(f"at [{index}] ours is {c.ours:.9g}, theirs {c.theirs:.9g}")
        lines.append(
            f"largest difference {c.max_abs:.3g}, mean {c.mean_abs:.3g}, relative {c.relative:.3g}, "
            f"NMSE {c.nmse:.3g}, cosine {c.cosine:.9g}, allowed is {result.tolerance}"
        )
    if result.hint:
        lines.append(f"usual cause: {result.hint}")
    return lines


def summary(results: Mapping[str, ValidationResult], command: str, run_id: str, *, has_pictures: bool) -> str:
    """The summary of results by label, as Markdown."""
    passed = all(result.passed for result in results.values())
    first = next(iter(results.values())).reference
    profiles = "\n\n".join(_profile(label, result) for label, result in results.items())
    pictures = "![drift](drift.png)\n\n![worst differences](worst.png)" if has_pictures else HOW_TO_GET
    programs = " and ".join(sorted({result.reference.program for result in results.values()}))
    references = "".join(f"    {result.reference.manifest.command}\n" for result in results.values())
    return f"""\
# Checkpoints of {first.manifest.model.file}: {"passed" if passed else "FAILED"}

Every intermediate value of llorch's forward pass, held against those of {programs} (run {run_id}).
*Stage by stage*: each stage starts from the reference's own input, so a fault shows where it is. \
*End to end*: our own values all the way, which shows how rounding adds up.

{profiles}

## Plots

{pictures}

## What was compared with what

{_facts(results)}

## What is allowed, and why

{_tolerance_table()}

## Check it yourself

This run:

    {command}


This bundle alone, verdicts recomputed from its data:

    llorch validate --verify proof_bundle/checkpoint/{run_id}


The references anew:

{references}

Files: `checkpoints.json` (verdicts, drift, references, tolerances), `checks-*.ndjson` (every check \
with its figures), `values-*.npz` (the values compared), `bundle.json` (environment and hashes), \
`attestation.json` (in-toto), `SHA256SUMS`.
"""


def _profile(label: str, result: ValidationResult) -> str:
    manifest, failure = result.reference.manifest, result.findings.first_failure
    lines = [f"## Profile {label}: {'passed' if result.passed else 'FAILED'}"]
    if failure:
        lines.append("\n".join(f"> {line}  " for line in failure_lines(failure)))
    lines.append(
        f"{len(result.findings.results)} comparisons, {len(manifest.layers)} of {manifest.model.sizes.n_layer} "
        f"layers in full, {manifest.n_decode} decode steps"
        f"{'' if result.reference.has_all_decode_stages else ' (K, V and logits)'}. "
        "In brackets the number of comparisons; `0` means equal in every bit."
    )
    head = ["#", "checkpoint", "stage by stage", "worst, where", "end to end", "worst, where"]
    rows = [[number, title, *_cells(local), *_cells(own)] for number, title, (local, own) in result.lines()]
    lines.append(markdown_table(head, rows))
    if runs := result.greedy_runs:
        hashes = ", ".join(f"`{run['logits_sha256'][:16]}`" for run in runs)
        lines.append(
            f"Greedy tokens {runs[0]['token_ids']}; SHA-256 of all logits of each of the {len(runs)} runs: {hashes}."
        )
    return "\n\n".join(lines)


def _cells(row: TableRow | None) -> list[str]:
    if row is None:
        return ["", ""]
    if row.worst is None:
        return [row.verdict, row.reason]
    verdict = "**FAIL**" if row.verdict == "fail" else row.verdict
    where = f" at {row.worst}" if row.worst.comparison and row.worst.comparison.max_abs else ""
    return [f"{verdict} ({row.n_checks})", row.worst.difference + where]


def _facts(results: Mapping[str, ValidationResult]) -> str:
    first = next(iter(results.values()))
    manifest, notes = first.reference.manifest, first.subject_notes
    model, identity = manifest.model, manifest.reference
    here = environment()
    kernels: dict[str, Any] = here["kernels"]
    facts = {
        "model": f"{model.file}, sha256 `{model.sha256}`",
        "sizes": ", ".join(f"{name} {size}" for name, size in model.sizes),
    }
    for label, result in results.items():
        prompt, ours = result.reference.manifest.prompt, result.subject_notes
        facts[f"{label}: weights"] = str(ours["weights"])
        facts[f"{label}: prompt"] = f"{prompt.text!r}, ids {list(prompt.token_ids)}; {ours['prompt']}"
    facts |= {
        "reference": _identity(identity),
        "reference's settings": ", ".join(f"{k} {v}" for k, v in manifest.settings.items()),
        "reference's CPU features": str(identity.get("system_info", "not recorded")),
        "llorch": f"{here['llorch']}, commit `{here['commit']}`{' (modified)' if here['is_modified'] else ''}; "
        f"KV cache f32, weights {notes['residence']}, {notes['n_threads']} threads",
        "kernels": f"{kernels['path']} on {kernels['cpu']} ({', '.join(kernels['features'])})",
        "order of float additions": f"{kernels['sums']}'s",
        "versions": f"Python {here['python']}, NumPy {here['numpy']}, Numba {here['numba']}, "
        f"llvmlite {here['llvmlite']}, {here['system']}",
    }
    return "\n".join(f"- **{name}**: {text}" for name, text in facts.items())


def _identity(identity: Mapping[str, Any]) -> str:
    """Which program the reference is of; `commit` stands for all that a build of llama.cpp records."""
    program = f"{identity.get('program')} {identity.get('version')}"
    if "commit" not in identity:
        return f"{program}, torch {identity.get('torch')}"
    built = f"built by {identity.get('compiler')} with `{identity.get('build_flags')}`"
    return f"{program}, commit `{identity['commit']}`, {built}"


def _tolerance_table() -> str:
    head, rows = ["#", "checkpoint", "stage by stage", "end to end", "reason"], []
    for c in CHECKPOINTS:
        drift = "; ".join(f"{profile}: {tolerance}" for profile, tolerance in c.drift.items())
        rows.append([c.number, c.title, str(c.tolerance), drift, c.tolerance.reason])
    reasons = {f"{profile}: {t.reason}" for c in CHECKPOINTS for profile, t in c.drift.items()}
    reasons |= {f"{profile}, a whole layer: {t}; {t.reason}" for profile, t in WHOLE_LAYER.items()}
    listed = "\n".join(f"- {reason}" for reason in sorted(reasons))
    return f"{markdown_table(head, rows)}\n\nEnd to end, and from layer to layer:\n\n{listed}"
