"""Recomputes the verdicts of a `checkpoint` bundle from the values and figures in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.validation.checkpoints import rows_of
from llorch.validation.compare import causal, compare
from llorch.validation.dumps import stage_key
from llorch.validation.findings import Check, Findings, Place
from llorch.validation.opened_bundle import Bundle
from llorch.validation.result_checks import (
    judge_best_tokens,
    judge_greedy,
    judge_most_likely,
    most_likely_data,
)
from llorch.validation.stage_checks import BY_NUMBER
from llorch.validation.tolerances import WHOLE_LAYER, Profile, Tolerance, stage_names

Arrays = Callable[[str], NDArray[Any]]
_FIGURES = ("max_abs", "mean_abs", "relative", "nmse", "cosine", "limit")
_SAME = 1e-9
"""Relative difference of a figure that another NumPy may give, sums being taken in another order."""

_JUDGES: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "10": lambda data: judge_most_likely(data)[0],
    "11": judge_best_tokens,
    "12": lambda data: judge_greedy(data)[0],
}


def verify_checkpoint(bundle: Bundle) -> None:
    """Recompute every check, every row of the table and the verdict of the bundle."""
    document = bundle.json("checkpoints.json")
    for profile in document["profiles"]:
        label = profile["label"]
        rows = bundle.rows(f"checks-{label}.ndjson")
        arrays = bundle.arrays(f"values-{label}.npz")
        findings = Findings()
        for row in rows:
            findings.checks.append(_recompute(bundle, label, profile, row, arrays))
        _check_most_likely(bundle, label, rows, arrays)
        _check_complete(bundle, label, profile, findings)
        recorded = {(r["number"], r["way"]): r["verdict"] for r in profile["rows"]}
        for found in rows_of(findings):
            key = (found.checkpoint.number, found.way)
            if recorded.get(key) != found.verdict:
                bundle.problems.append(
                    f"{label}: checkpoint {key[0]} {key[1]} says {recorded.get(key)}, its checks {found.verdict}"
                )
        if profile["passed"] != (findings.first_failure is None):
            bundle.problems.append(f"{label}: says passed {profile['passed']}, its checks the opposite")
    passed = all(profile["passed"] for profile in document["profiles"]) and bool(document["profiles"])
    if not passed == document["passed"] == bundle.index["passed"]:
        bundle.problems.append("the verdict of the bundle does not follow from its profiles")


def _recompute(
    bundle: Bundle, label: str, profile: Mapping[str, Any], row: Mapping[str, Any], arrays: Arrays
) -> Check:
    """One check again; what differs from the record becomes a problem of the bundle."""
    place = Place(row["way"], row["run"], row["stage"], row["layer"])
    where = f"{label}: {place.key}"
    checkpoint = BY_NUMBER[row["checkpoint"]]
    verdict = row["verdict"]
    if verdict not in ("pass", "fail", "skipped"):
        bundle.problems.append(f"{where}: verdict {verdict!r} is not known")
    if verdict == "skipped":
        return Check(checkpoint.number, place, "skipped", note=row.get("note", ""))
    tolerance = _expected_tolerance(profile, row)
    recorded = row["tolerance"]
    if any(recorded[name] != getattr(tolerance, name) for name in ("absolute", "relative", "nmse")):
        bundle.problems.append(f"{where}: was allowed {recorded}, the table of this llorch says {tolerance}")
    if "comparison" not in row:
        passed = _JUDGES[checkpoint.number](row["data"])
    else:
        passed = _compare_again(bundle, where, row, tolerance, arrays)
    bundle.n_recomputed += 1
    if passed != (verdict == "pass"):
        bundle.problems.append(f"{where}: says {verdict}, its data give the opposite")
    return Check(checkpoint.number, place, "pass" if passed else "fail", tolerance=tolerance)


def _expected_tolerance(profile: Mapping[str, Any], row: Mapping[str, Any]) -> Tolerance:
    """What the table allows a check."""
    checkpoint = BY_NUMBER[row["checkpoint"]]
    name: Profile = "native" if profile["profile"] == "native" else "f32"
    is_stage = any(stage.name == row["stage"] for stage in checkpoint.stages)
    if is_stage and row["way"] == "end_to_end":
        return checkpoint.drift[name]
    if is_stage and row["layer"] >= 0 and row["layer"] not in profile["reference"]["layers"]:
        return WHOLE_LAYER[name]
    return checkpoint.tolerance


def _compare_again(
    bundle: Bundle, where: str, row: Mapping[str, Any], tolerance: Tolerance, arrays: Arrays
) -> bool:
    kept, recorded = row.get("kept"), row["comparison"]
    if kept is None:
        if recorded["n_values"]:
            bundle.problems.append(f"{where}: no values were kept")
        return True
    ours, theirs = arrays(kept["ours"]), arrays(kept["theirs"])
    if kept["rows"] is not None:
        bundle.n_from_rows += 1
        return _compare_rows(bundle, where, row, tolerance, ours, theirs)
    mask = None
    if "causal_position" in row:
        mask = causal(theirs.shape[-2], row["causal_position"], theirs.shape[-1])
    again = compare(ours, theirs, tolerance, mask)
    figures = again.to_json()
    for name in _FIGURES:
        if not _is_same(figures[name], recorded[name]):
            bundle.problems.append(
                f"{where}: {name} is recorded as {recorded[name]}, the values give {figures[name]}"
            )
    return again.passed


def _compare_rows(
    bundle: Bundle,
    where: str,
    row: Mapping[str, Any],
    tolerance: Tolerance,
    ours: NDArray[Any],
    theirs: NDArray[Any],
) -> bool:
    """From the deciding rows: the largest difference and its limit; the NMSE is taken as recorded."""
    recorded = row["comparison"]
    mask = np.ones(theirs.shape, np.bool_)
    if "causal_position" in row:
        for i, index in enumerate(row["kept"]["rows"]):
            mask[i] = np.arange(theirs.shape[-1]) <= row["causal_position"] + index[-1]
    again = compare(ours, theirs, Tolerance(tolerance.absolute, "", tolerance.relative), mask)
    for name in ("max_abs", "limit"):
        if not _is_same(again.to_json()[name], recorded[name]):
            bundle.problems.append(f"{where}: {name} is recorded as {recorded[name]}, the rows give another")
    return again.passed and (tolerance.nmse is None or float(recorded["nmse"]) <= tolerance.nmse)


def _check_most_likely(bundle: Bundle, label: str, rows: Sequence[Mapping[str, Any]], arrays: Arrays) -> None:
    """Checkpoint 10's data must follow from the logits, where all of them were kept."""
    logits = [row for row in rows if (row["way"], row["stage"]) == ("end_to_end", "result_output")]
    recorded = [row["data"] for row in rows if row["checkpoint"] == "10" and "data" in row]
    if not recorded or any(row.get("kept", {}).get("rows", ()) is not None for row in logits):
        return
    again = most_likely_data((arrays(row["kept"]["ours"]), arrays(row["kept"]["theirs"])) for row in logits)
    for name, values in again.items():
        found = recorded[0][name]
        if len(found) != len(values) or not np.allclose(found, values, rtol=1e-5, atol=1e-6):
            bundle.problems.append(
                f"{label}: {name} of the most likely tokens does not follow from the logits"
            )


def _is_same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    x, y = float(a), float(b)
    return x == y or math.isclose(x, y, rel_tol=_SAME, abs_tol=1e-12 if abs(x) > 0.5 else 0.0)


def _check_complete(bundle: Bundle, label: str, profile: Mapping[str, Any], findings: Findings) -> None:
    """A bundle that says everything passed must hold every stage of the prompt pass, in both ways."""
    if findings.first_failure is not None:
        return
    reference = profile["reference"]
    seen = {check.place.key for check in findings.checks if check.verdict == "pass"}
    for way in ("local", "end_to_end"):
        for stage, layer in stage_names(reference["sizes"]["n_layer"]):
            is_dumped = layer < 0 or layer in reference["layers"] or stage == "l_out"
            key = f"{way}/prefill/{stage_key(stage, layer)}"
            if is_dumped and key not in seen:
                bundle.problems.append(f"{label}: {key} is missing")
    for row in rows_of(findings):
        if row.verdict == "skipped":
            bundle.problems.append(f"{label}: checkpoint {row.checkpoint.number} {row.way} was not made")
