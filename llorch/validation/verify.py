"""Re-checking a proof bundle: its hashes and signature, then verdicts and figures by the functions that judged the run.

Nothing in a bundle is believed but its data. What does not follow becomes a problem; a bundle that cannot be read
as one is a `ReferenceDumpError`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llorch.errors import ReferenceDumpError
from llorch.formats.printed import printable
from llorch.model.config import ModelConfig
from llorch.model.weights import BIAS, OPTIONAL_WEIGHTS, expected_shapes
from llorch.quant.types import SUPPORTED
from llorch.validation.bounds import Bounds
from llorch.validation.bundle import INDEX, SEALS, Bundle
from llorch.validation.checkpoint_bundle import CHECKPOINTS_FILE
from llorch.validation.checkpoints import TableRow, table_of
from llorch.validation.compare import causal, compare
from llorch.validation.dumps import Sizes
from llorch.validation.findings import WAYS, StageResult
from llorch.validation.loading_bundle import ALL_FINITE, LOADING_FILE, TENSORS_FILE, LoadingCheck, TensorRow
from llorch.validation.performance_checks import check_performance
from llorch.validation.records import ArrayFile, Record
from llorch.validation.result_checks import JUDGES, most_likely_data
from llorch.validation.seal_checks import (
    check_attestation,
    check_files,
    check_signature,
    require_regular_files,
)
from llorch.validation.stage_checks import tolerance_of
from llorch.validation.tolerances import STAGES, Profile, stage_key, stage_names

_ALL_FIGURES = ["max_abs", "mean_abs", "relative", "nmse", "cosine", "limit"]
_UNCHECKABLE = (
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
    OverflowError,
    OSError,
    RecursionError,
)
_SAME = 1e-9
"""Relative difference of a figure that another NumPy may give, sums being taken in another order."""


def verify(folder: Path, public_key: Path | None = None) -> Bundle:
    """Re-check a bundle.

    Args:
        folder: of the bundle.
        public_key: a PEM file; with it the signature must hold.

    Returns:
        The bundle with the problems found.

    Raises:
        ReferenceDumpError: it is no bundle, or its data cannot be read as one.
        InputError: the key cannot be used.
    """
    require_regular_files(folder)
    bundle = Bundle.open(folder)
    wrong = _files_unlike_the_index(bundle)
    check_files(bundle, wrong)
    check_signature(bundle, public_key)
    if bundle.problems:
        return bundle
    recompute = {"loading": _loading, "checkpoint": _checkpoint, "performance": check_performance}
    try:
        recompute[bundle.index.kind](bundle)
        check_attestation(bundle)
    except _UNCHECKABLE as error:
        what = f"{type(error).__name__}: {error}"
        raise ReferenceDumpError(f"{printable(folder)} holds data that cannot be checked ({what})") from None
    return bundle


def _files_unlike_the_index(bundle: Bundle) -> set[str]:
    """Hold the files against `bundle.json`; the names of those that became problems."""
    wrong = set()
    for name, entry in bundle.index.files.items():
        try:
            entry.require(bundle.folder / name, name)
        except ReferenceDumpError as error:
            bundle.problems.append(str(error))
            wrong.add(name)
    for name in sorted(path.name for path in bundle.folder.iterdir()):
        if name not in {INDEX, *SEALS, *bundle.index.files}:
            bundle.problems.append(f"{printable(Path(name))} does not belong to the bundle")
            wrong.add(name)
    return wrong


def _require_verdict(bundle: Bundle, passed: bool, recorded: bool, source: str) -> None:
    holds = passed == recorded == bundle.index.passed
    bundle.require(holds, f"the verdict of the bundle does not follow from its {source}")


class _Reference(Record):
    sizes: Sizes
    layers: tuple[int, ...]


class _Profile(Record):
    label: str
    profile: Profile
    passed: bool
    reference: _Reference
    rows: tuple[TableRow, ...]


class _Checkpoints(Record):
    passed: bool
    profiles: tuple[_Profile, ...]


def _checkpoint(bundle: Bundle) -> None:
    """Every result, every row of the table and the verdict of the bundle follow from values and data."""
    document = bundle.record(CHECKPOINTS_FILE, _Checkpoints)
    for profile in document.profiles:
        label = profile.label
        recorded = bundle.rows(f"checks-{label}.ndjson", StageResult)
        arrays = ArrayFile(bundle.path(f"values-{label}.npz"))
        results = [_again(bundle, profile, result, arrays) for result in recorded]
        _check_most_likely(bundle, label, recorded, arrays)
        verdicts = {(row.number, row.way): row.verdict for row in profile.rows}
        for row in table_of(results):
            says = verdicts.get((row.number, row.way))
            text = f"{label}: checkpoint {row.number} {row.way} says {says}, its checks {row.verdict}"
            bundle.require(says == row.verdict, text)
        passed = all(result.verdict == "pass" for result in results)
        text = f"{label}: says passed {profile.passed}, its checks the opposite"
        bundle.require(profile.passed == passed, text)
        if passed:
            _check_complete(bundle, profile, results)
    passed = all(profile.passed for profile in document.profiles) and bool(document.profiles)
    _require_verdict(bundle, passed, document.passed, "profiles")


def _again(bundle: Bundle, profile: _Profile, recorded: StageResult, arrays: ArrayFile) -> StageResult:
    """One result again; what differs from the record becomes a problem of the bundle."""
    where = f"{profile.label}: {recorded.key}"
    allowed, says = (
        tolerance_of(recorded, profile.profile, profile.reference.layers).bounds,
        recorded.tolerance,
    )
    bundle.n_recomputed += 1
    if recorded.stage in JUDGES:
        passed, _ = JUDGES[recorded.stage](recorded.data or {})
    elif recorded.comparison is None:
        passed, allowed, shapes = False, says, recorded.data or {}  # whatever was allowed
        bundle.require(shapes["ours"] != shapes["theirs"], f"{where}: was not compared")
    else:
        passed = _compare_again(bundle, where, recorded, allowed, arrays)
    text = f"{where}: was allowed {says}, the table of this llorch says {allowed}"
    bundle.require(says == allowed, text)
    belongs = recorded.stage not in STAGES or STAGES[recorded.stage].number == recorded.checkpoint
    bundle.require(belongs, f"{where}: is no stage of checkpoint {recorded.checkpoint}")
    verdict = "pass" if passed else "fail"
    text = f"{where}: says {recorded.verdict}, its data give the opposite"
    bundle.require(verdict == recorded.verdict, text)
    return recorded.model_copy(update={"verdict": verdict})


def _compare_again(
    bundle: Bundle, where: str, result: StageResult, tolerance: Bounds, arrays: ArrayFile
) -> bool:
    """From whole arrays all figures; from the deciding rows the largest difference and its limit."""
    recorded, kept, position = result.comparison, result.kept, result.causal_position
    assert recorded is not None
    if kept is None:
        bundle.require(not recorded.n_values, f"{where}: no values were kept")
        return True
    ours, theirs = arrays.read(kept.ours), arrays.read(kept.theirs)
    mask = None if position is None else causal(theirs.shape[-2], position, theirs.shape[-1])
    figures, is_within_nmse = _ALL_FIGURES, True
    if kept.rows is not None:
        bundle.n_from_rows += 1
        figures = ["max_abs", "limit"]
        if position is not None:
            queries = np.array([row[-1] for row in kept.rows])
            mask = np.arange(theirs.shape[-1]) <= position + queries[:, None]
        is_within_nmse = tolerance.nmse is None or recorded.nmse <= tolerance.nmse
        tolerance = tolerance.model_copy(update={"nmse": None})
    again = compare(ours, theirs, tolerance, mask)
    for name in figures:
        says, gives = getattr(recorded, name), getattr(again, name)
        text = f"{where}: {name} is recorded as {says}, the values give {gives}"
        bundle.require(_is_same(gives, says), text)
    return again.passed and is_within_nmse


def _is_same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return a == b or math.isclose(a, b, rel_tol=_SAME, abs_tol=1e-12 if abs(a) > 0.5 else 0.0)


def _check_most_likely(bundle: Bundle, label: str, results: Sequence[StageResult], arrays: ArrayFile) -> None:
    """Checkpoint 10's data must follow from the logits, where all of them were kept."""
    kept = [r.kept for r in results if (r.way, r.stage) == ("end_to_end", "result_output")]
    whole = [arrays_of for arrays_of in kept if arrays_of and arrays_of.rows is None]
    recorded = [result.data for result in results if result.checkpoint == "10" and result.data]
    if not recorded or len(whole) < len(kept):
        return
    again = most_likely_data((arrays.read(names.ours), arrays.read(names.theirs)) for names in whole)
    for name, values in again.items():
        found = recorded[0][name]
        same = len(found) == len(values) and np.allclose(found, values, rtol=1e-5, atol=1e-6)
        bundle.require(same, f"{label}: {name} of the most likely tokens does not follow from the logits")


def _check_complete(bundle: Bundle, profile: _Profile, results: Sequence[StageResult]) -> None:
    """A bundle that says everything passed must hold every stage of the prompt pass, in both ways."""
    seen = {result.key for result in results}
    for way in WAYS:
        for stage in stage_names(profile.reference.sizes.n_layer, profile.reference.layers):
            key = f"{way}/prefill/{stage_key(*stage)}"
            bundle.require(key in seen, f"{profile.label}: {key} is missing")
    for row in table_of(results):
        text = f"{profile.label}: checkpoint {row.number} {row.way} was not made"
        bundle.require(row.verdict != "skipped", text)


class _LoadedFile(Record):
    bytes: int
    alignment: int


class _Loading(Record):
    passed: bool
    model: _LoadedFile
    config: ModelConfig
    checks: tuple[LoadingCheck, ...]


def _loading(bundle: Bundle) -> None:
    """Sizes follow from types and shapes, tensors lie in the file without overlaps, verdicts follow."""
    document = bundle.record(LOADING_FILE, _Loading)
    rows = bundle.rows(TENSORS_FILE, TensorRow)
    types = {kind.name: kind for kind in SUPPORTED.values()}
    ends: dict[int, int] = {}
    for row in sorted(rows, key=lambda row: (row.part, row.offset)):
        size = math.prod(row.shape[:-1]) * types[row.type].row_bytes(row.shape[-1])
        bundle.require(row.bytes == size, f"{row.name}: {row.bytes} bytes, type and shape give {size}")
        is_aligned = row.offset % document.model.alignment == 0
        bundle.require(is_aligned, f"{row.name}: offset {row.offset} is not aligned")
        bundle.require(row.offset >= ends.get(row.part, 0), f"{row.name}: overlaps the tensor before it")
        ends[row.part] = row.offset + row.bytes
    is_inside = sum(ends.values()) <= document.model.bytes
    bundle.require(is_inside, "the tensors reach beyond the end of the file")
    _check_shapes(bundle, document.config, {row.name: row.shape for row in rows})
    checks = {check.name: check.passed for check in document.checks}
    bundle.n_recomputed += len(rows) + len(checks)
    follows = checks.get(ALL_FINITE) is all(row.first_bad_block is None for row in rows)
    bundle.require(follows, f"the check that {ALL_FINITE} does not follow from the tensors")
    _require_verdict(bundle, all(checks.values()), document.passed, "checks")


def _check_shapes(bundle: Bundle, config: ModelConfig, shapes: dict[str, tuple[int, ...]]) -> None:
    """Every tensor has the shape that the sizes imply, and none that they imply is missing."""
    if config.n_layer > len(shapes):
        bundle.problems.append(f"{len(shapes)} tensors are too few for {config.n_layer} layers")
        return
    for name, shape in expected_shapes(config).items():
        found = shapes.get(name)
        is_optional = name in OPTIONAL_WEIGHTS or name.endswith(BIAS)
        holds = found == shape or (found is None and is_optional)
        bundle.require(holds, f"{name}: shape {found and list(found)}, sizes give {list(shape)}")
