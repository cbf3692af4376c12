"""What a validation has found so far: one `Check` per comparison, and the values behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llorch.validation.compare import Comparison, compare
from llorch.validation.dumps import stage_key
from llorch.validation.tolerances import Checkpoint, Tolerance, hint_of

Way = Literal["local", "end_to_end"]
"""`local`: computed from the reference's own input. `end_to_end`: from our own values all the way."""

Verdict = Literal["pass", "fail", "skipped"]
KEPT_WHOLE_VALUES = 1024
"""Arrays up to this size are kept whole; of larger ones the rows that decide on the largest difference."""
KEPT_WHOLE_STAGES = ("l_out", "result_norm", "result_output")
"""End to end these are kept whole up to `KEPT_BYTES` in all: their verdict needs every value."""
KEPT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the computation a comparison stands.

    Attributes:
        way: what fed the stage.
        run: name of the pass, e.g. ``"prefill"`` or ``"decode/0"``.
        stage: public name of the value, or what else is compared (``"cache_k"``, ``"most likely"``, ...).
        layer: -1 outside the layers.
    """

    way: Way
    run: str
    stage: str
    layer: int = -1

    @property
    def key(self) -> str:
        """``"local/prefill/attn_norm-0"``."""
        return f"{self.way}/{self.run}/{stage_key(self.stage, self.layer)}"


@dataclass(frozen=True, slots=True)
class Kept:
    """Which values stand behind a comparison, as names of arrays.

    Attributes:
        ours, theirs: names; the same when the values are identical.
        rows: None when the arrays are whole; else the indices (without the last axis) of the kept rows: the
            one with the largest difference, then the one with the reference's largest magnitude (if another).
    """

    ours: str
    theirs: str
    rows: tuple[tuple[int, ...], ...] | None


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison, made or left out.

    Attributes:
        checkpoint: its number in the table.
        place: where it stands.
        verdict: the outcome.
        note: what was compared or why it was not, where the place does not say it.
        hint: what usually causes a failure here; empty unless it failed.
        tolerance: what was allowed.
        comparison: the figures; None where the check is no comparison of arrays.
        causal_position: position of the first query when only unmasked scores were compared; else None.
        kept: the values behind it.
        data: what a check of another kind was decided on.
    """

    checkpoint: str
    place: Place
    verdict: Verdict
    note: str = ""
    hint: str = ""
    tolerance: Tolerance | None = None
    comparison: Comparison | None = None
    causal_position: int | None = None
    kept: Kept | None = None
    data: Mapping[str, Any] | None = None

    @property
    def share(self) -> float:
        """How much of the tolerance was used up, 0 to 1 for a pass; 0 where there is nothing to measure."""
        if self.comparison is None or self.tolerance is None:
            return 0.0
        shares = [0.0]
        if self.comparison.limit is not None:
            shares.append(_ratio(self.comparison.max_abs, self.comparison.limit))
        if self.tolerance.nmse is not None:
            shares.append(_ratio(self.comparison.nmse, self.tolerance.nmse))
        return max(shares)

    def to_json(self) -> dict[str, Any]:
        """JSON values, what is None or empty left out; reasons stand in the table of tolerances."""
        tolerance = asdict(self.tolerance) if self.tolerance else {}
        tolerance.pop("reason", None)
        optional = {
            "note": self.note,
            "hint": self.hint,
            "tolerance": tolerance,
            "comparison": self.comparison.to_json() if self.comparison else None,
            "causal_position": self.causal_position,
            "kept": asdict(self.kept) if self.kept else None,
            "data": dict(self.data) if self.data is not None else None,
        }
        return {
            "checkpoint": self.checkpoint,
            **asdict(self.place),
            "verdict": self.verdict,
            **{key: value for key, value in optional.items() if value not in (None, "", {})},
        }


def _ratio(value: float, limit: float) -> float:
    return value / limit if limit > 0 else (0.0 if value == 0 else float("inf"))


@dataclass(slots=True)
class Findings:
    """Collects the checks of one profile.

    Attributes:
        stops_at_first: whether the first failure ends the validation.
        on_check: called with every check, e.g. to show progress.
        checks: in the order they were made.
        values: arrays by name, each content once.
    """

    stops_at_first: bool = True
    on_check: Callable[[Check], None] | None = None
    checks: list[Check] = field(default_factory=list)
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    _by_content: dict[str, str] = field(default_factory=dict)
    _n_bytes: int = 0

    @property
    def first_failure(self) -> Check | None:
        """The first check that failed."""
        return next((check for check in self.checks if check.verdict == "fail"), None)

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is to be compared."""
        return self.stops_at_first and self.first_failure is not None

    def compare(
        self,
        checkpoint: Checkpoint,
        place: Place,
        ours: NDArray[Any],
        theirs: NDArray[Any],
        *,
        tolerance: Tolerance | None = None,
        where: NDArray[np.bool_] | None = None,
        causal_position: int | None = None,
        note: str = "",
    ) -> None:
        """Compare two arrays (see `llorch.validation.compare.compare`) and record it; both are copied.

        Args:
            checkpoint: what it belongs to; gives the tolerance when none is passed.
            place: where it stands.
            ours: our values.
            theirs: the reference's, or those of ours that they must equal.
            tolerance: another than the checkpoint's.
            where: which pairs count.
            causal_position: how `where` came about (see `Check`).
            note: what is compared.
        """
        if ours.shape != theirs.shape:
            shapes = {"ours": list(ours.shape), "theirs": list(theirs.shape)}
            note = f"our shape {ours.shape} differs from the reference's {theirs.shape}"
            self.state(checkpoint, place, False, note, shapes)
            return
        tolerance = tolerance or checkpoint.tolerance
        comparison = compare(ours, theirs, tolerance, where)
        self._add(
            Check(
                checkpoint=checkpoint.number,
                place=place,
                verdict="pass" if comparison.passed else "fail",
                note=note,
                hint="" if comparison.passed else _hint(checkpoint, place.stage),
                tolerance=tolerance,
                comparison=comparison,
                causal_position=causal_position,
                kept=self._keep(place, ours, theirs, comparison.worst_index, where),
            )
        )

    def state(
        self, checkpoint: Checkpoint, place: Place, passed: bool, note: str, data: Mapping[str, Any]
    ) -> None:
        """Record a check that is no comparison of arrays."""
        self._add(
            Check(
                checkpoint=checkpoint.number,
                place=place,
                verdict="pass" if passed else "fail",
                note=note,
                hint="" if passed else _hint(checkpoint, place.stage),
                tolerance=checkpoint.tolerance,
                data=data,
            )
        )

    def skip(self, checkpoint: Checkpoint, place: Place, reason: str) -> None:
        """Record that something was not compared, and why."""
        self._add(Check(checkpoint.number, place, "skipped", note=reason))

    def _add(self, check: Check) -> None:
        self.checks.append(check)
        if self.on_check:
            self.on_check(check)

    def _keep(
        self,
        place: Place,
        ours: NDArray[Any],
        theirs: NDArray[Any],
        worst: tuple[int, ...],
        where: NDArray[np.bool_] | None,
    ) -> Kept | None:
        if not worst:
            return None
        rows: tuple[tuple[int, ...], ...] | None = None
        is_whole_stage = place.way == "end_to_end" and place.stage in KEPT_WHOLE_STAGES
        if theirs.size > KEPT_WHOLE_VALUES and not (is_whole_stage and self._n_bytes < KEPT_BYTES):
            counted = np.abs(theirs) if where is None else np.where(where, np.abs(theirs), 0)
            peak = np.unravel_index(int(counted.argmax()), theirs.shape)
            rows = tuple(dict.fromkeys((worst[:-1], tuple(int(i) for i in peak[:-1]))))
            ours, theirs = (np.stack([values[row] for row in rows]) for values in (ours, theirs))
        name = f"theirs/{place.key.split('/', 1)[1]}"
        kept_theirs = self._keep_array(name if rows is None else f"{name}@{place.way}", theirs)
        return Kept(self._keep_array(place.key, ours), kept_theirs, rows)

    def _keep_array(self, name: str, values: NDArray[Any]) -> str:
        """Keep a copy unless the same content is kept already; returns the name it is kept under."""
        content = np.ascontiguousarray(values)
        digest = hashlib.sha256(f"{content.dtype}{content.shape}".encode() + content.tobytes()).hexdigest()
        if digest in self._by_content:
            return self._by_content[digest]
        while name in self.values:
            name += "'"
        self.values[name] = content.copy()
        self._by_content[digest] = name
        self._n_bytes += content.nbytes
        return name


def _hint(checkpoint: Checkpoint, stage: str) -> str:
    if any(stage == known.name for known in checkpoint.stages):
        return hint_of(stage)
    return checkpoint.hint
