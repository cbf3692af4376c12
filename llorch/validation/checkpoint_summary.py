"""The page of a `checkpoint` bundle that a reviewer reads first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llorch.validation.bundle import environment
from llorch.validation.checkpoints import Outcome, Row
from llorch.validation.dumps import stage_key
from llorch.validation.findings import Check, Way
from llorch.validation.tolerances import CHECKPOINTS, WHOLE_LAYER

WAYS: dict[Way, str] = {"local": "stage by stage", "end_to_end": "end to end"}


def place_text(check: Check) -> str:
    """Where a check stands, e.g. ``"kq-3, decode/4"``."""
    return f"{stage_key(check.place.stage, check.place.layer)}, {check.place.run}"


def difference_text(check: Check) -> str:
    """The largest difference and what was allowed, in a few characters."""
    c = check.comparison
    if c is None:
        return check.note.split(";")[0]
    if c.max_abs == 0:
        return "identical bits" if c.limit == 0 else "0"
    if c.limit is not None:
        return f"{c.max_abs:.2g} of {c.limit:.2g}"
    allowed = check.tolerance.nmse if check.tolerance else None
    return f"NMSE {c.nmse:.1e}" + (f" of {allowed:.0e}" if allowed is not None else "")


def failure_lines(check: Check) -> list[str]:
    """What a failed check found, for people."""
    lines = [f"checkpoint {check.checkpoint}, {WAYS[check.place.way]}: {place_text(check)} differs"]
    if check.note:
        lines.append(check.note)
    c = check.comparison
    if c is not None:
        index = ", ".join(map(str, c.worst_index))
        lines.append(f"at [{index}] ours is {c.ours:.9g}, theirs {c.theirs:.9g}")
        allowed = f", allowed is {check.tolerance}" if check.tolerance else ""
        lines.append(
            f"largest difference {c.max_abs:.3g}, mean {c.mean_abs:.3g}, relative {c.relative:.3g}, "
            f"NMSE {c.nmse:.3g}, cosine {c.cosine:.9g}{allowed}"
        )
    if check.hint:
        lines.append(f"usual cause: {check.hint}")
    return lines


def summary(labels: Sequence[str], outcomes: Sequence[Outcome], command: str, run_id: str) -> str:
    """The summary as Markdown."""
    passed = all(outcome.passed for outcome in outcomes)
    first = outcomes[0].reference
    parts = [
        f"# Checkpoints of {first.model_file}: {'passed' if passed else 'FAILED'}",
        f"Every intermediate value of llorch's forward pass, held against llama.cpp's (run {run_id}).\n"
        "*Stage by stage*: each stage starts from llama.cpp's own input, so a fault shows where it is. "
        "*End to end*: our own values all the way, which shows how rounding adds up.",
    ]
    for label, outcome in zip(labels, outcomes, strict=True):
        parts += _profile(label, outcome)
    parts += ["## Plots", "![drift](drift.png)", "![worst differences](worst.png)"]
    parts += ["## What was compared with what", _facts(labels, outcomes)]
    parts += ["## What is allowed, and why", _tolerance_table()]
    parts += [
        "## Check it yourself",
        f"This run:\n\n    {command}\n",
        "This bundle alone, verdicts recomputed from its data:\n\n"
        f"    llorch validate --verify proof_bundle/checkpoint/{run_id}\n",
        "The references, from llama.cpp anew:\n\n"
        + "".join(f"    {outcome.reference.command}\n" for outcome in outcomes),
        "Files: `checkpoints.json` (verdicts, drift, references, tolerances), `checks-*.ndjson` (every check "
        "with its figures), `values-*.npz` (the values compared), `bundle.json` (environment and hashes).",
    ]
    return "\n\n".join(parts) + "\n"


def _profile(label: str, outcome: Outcome) -> list[str]:
    checks = [c for c in outcome.findings.checks if c.verdict != "skipped"]
    failure = outcome.findings.first_failure
    n_layer, layers = outcome.reference.sizes.n_layer, outcome.reference.layers
    verdict = "passed" if outcome.passed else "FAILED"
    lines = [f"## Profile {label}: {verdict}"]
    if failure:
        lines.append("\n".join(f"> {line}  " for line in failure_lines(failure)))
    lines.append(
        f"{len(checks)} comparisons, {len(layers)} of {n_layer} layers in full, "
        f"{outcome.reference.n_decode} decode steps"
        f"{'' if outcome.reference.has_all_decode_stages else ' (K, V and logits)'}. "
        "In brackets the number of comparisons; `0` means equal in every bit."
    )
    lines.append(_table(outcome.rows))
    if outcome.greedy_runs:
        runs = ", ".join(f"`{run['logits_sha256'][:16]}`" for run in outcome.greedy_runs)
        lines.append(
            f"Greedy tokens {outcome.greedy_runs[0]['token_ids']}; "
            f"SHA-256 of all logits of each of the {len(outcome.greedy_runs)} runs: {runs}."
        )
    return lines


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "| # | checkpoint | stage by stage | worst, where | end to end | worst, where |",
        "|---|---|---|---|---|---|",
    ]
    for number in dict.fromkeys(row.checkpoint.number for row in rows):
        of_number = {row.way: row for row in rows if row.checkpoint.number == number}
        title = next(iter(of_number.values())).checkpoint.title
        cells = [number, title]
        for way in WAYS:
            cells += _cells(of_number.get(way))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _cells(row: Row | None) -> list[str]:
    if row is None:
        return ["", ""]
    verdict = {"pass": "pass", "fail": "**FAIL**"}.get(row.verdict, row.verdict)
    if row.worst is None:
        return [verdict, row.reason]
    where = f" at {place_text(row.worst)}" if row.worst.comparison and row.worst.comparison.max_abs else ""
    return [f"{verdict} ({row.n_checks})", difference_text(row.worst) + where]


def _facts(labels: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    reference = outcomes[0].reference
    here = environment()
    kernels: dict[str, Any] = here["kernels"]
    notes = outcomes[0].subject_notes
    identity = reference.identity
    facts = [
        ("model", f"{reference.model_file}, sha256 `{reference.model_sha256}`"),
        ("sizes", ", ".join(f"{n} {getattr(reference.sizes, n)}" for n in reference.sizes.__slots__)),
    ]
    for label, outcome in zip(labels, outcomes, strict=True):
        r, ours = outcome.reference, outcome.subject_notes
        facts += [
            (f"{label}: weights", str(ours["weights"])),
            (f"{label}: prompt", f"{r.prompt!r}, ids {list(r.prompt_token_ids)}; {ours['prompt']}"),
        ]
    facts += [
        (
            "reference",
            f"{identity.get('program')} {identity.get('version')}, commit `{identity.get('commit')}`, "
            f"built by {identity.get('compiler')} with `{identity.get('build_flags')}`",
        ),
        ("reference's settings", ", ".join(f"{k} {v}" for k, v in reference.settings.items())),
        ("reference's CPU features", str(identity.get("system_info"))),
        (
            "llorch",
            f"{here['llorch']}, commit `{here['commit']}`{' (modified)' if here['is_modified'] else ''}; "
            f"KV cache f32, weights {notes['residence']}, {notes['n_threads']} threads",
        ),
        ("kernels", f"{kernels['path']} on {kernels['cpu']} ({', '.join(kernels['features'])})"),
        ("order of float additions", f"{kernels['sums']}'s"),
        (
            "versions",
            f"Python {here['python']}, NumPy {here['numpy']}, Numba {here['numba']}, "
            f"llvmlite {here['llvmlite']}, {here['system']}",
        ),
    ]
    return "\n".join(f"- **{name}**: {text}" for name, text in facts)


def _tolerance_table() -> str:
    lines = ["| # | checkpoint | stage by stage | end to end | reason |", "|---|---|---|---|---|"]
    for c in CHECKPOINTS:
        drift = "; ".join(f"{profile}: {tolerance}" for profile, tolerance in c.drift.items())
        lines.append(f"| {c.number} | {c.title} | {c.tolerance} | {drift} | {c.tolerance.reason} |")
    reasons = {f"{profile}: {t.reason}" for c in CHECKPOINTS for profile, t in c.drift.items()}
    reasons |= {f"{profile}, a whole layer: {t}; {t.reason}" for profile, t in WHOLE_LAYER.items()}
    return (
        "\n".join(lines)
        + "\n\nEnd to end, and from layer to layer:\n\n"
        + "\n".join(f"- {reason}" for reason in sorted(reasons))
    )
