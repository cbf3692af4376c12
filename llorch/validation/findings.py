"""What a validation has found so far: one `StageResult` per comparison, and the values behind it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import SerializerFunctionWrapHandler, model_serializer

from llorch.validation.bounds import Bounds, Tolerance
from llorch.validation.compare import Comparison, causal, compare
from llorch.validation.records import Record
from llorch.validation.tolerances import BY_NUMBER, hint_of, stage_key

Way = Literal["local", "end_to_end"]
"""`local`: computed from the reference's own input. `end_to_end`: from our own values all the way."""

WAYS: Mapping[Way, str] = {"local": "stage by stage", "end_to_end": "end to end"}
"""What people call them."""

KEPT_WHOLE_VALUES = 1024
"""Arrays up to this size are kept whole; of larger ones the rows that decide on the largest difference."""
KEPT_WHOLE_STAGES = ("l_out", "result_norm", "result_output")
"""End to end these are kept whole up to `KEPT_BYTES` in all: their verdict needs every value."""
KEPT_BYTES = 16 << 20


class Location(Record):
    """Where a result stands, in the table of checkpoints and in the computation.

    Attributes:
        checkpoint: number in the table.
        way: what fed the stage.
        run: name of the pass, e.g. ``"prefill"`` or ``"decode/0"``.
        stage: public name of the value, or what else is compared (``"cache_k"``, ``"most likely"``, ...).
        layer: -1 outside the layers.
    """

    checkpoint: str
    way: Way
    run: str
    stage: str
    layer: int = -1

    @property
    def key(self) -> str:
        """``"local/prefill/attn_norm-0"``."""
        return f"{self.way}/{self.run}/{stage_key(self.stage, self.layer)}"

    def __str__(self) -> str:
        return f"{stage_key(self.stage, self.layer)}, {self.run}"


class KeptArrays(Record):
    """Names of the arrays behind a comparison; both are the same when the values are identical.

    `rows` is None when the arrays are whole; else the indices (without the last axis) of the kept rows: the one
    with the largest difference, then the one with the reference's largest magnitude (if another).
    """

    ours: str
    theirs: str
    rows: tuple[tuple[int, ...], ...] | None


class StageResult(Location):
    """The result of one comparison.

    Attributes:
        note: what was compared, where the location does not say it.
        hint: what usually causes a failure here; empty unless it failed.
        tolerance: what was allowed.
        comparison: the figures; None where no arrays were compared.
        causal_position: position of the first query when only unmasked scores were compared; else None.
        kept: the values behind it.
        data: what a result without a comparison was decided on.
    """

    verdict: Literal["pass", "fail"]
    note: str = ""
    hint: str = ""
    tolerance: Bounds
    comparison: Comparison | None = None
    causal_position: int | None = None
    kept: KeptArrays | None = None
    data: dict[str, Any] | None = None

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is None or empty is left out."""
        return {key: value for key, value in handler(self).items() if value not in (None, "", {})}

    @property
    def share(self) -> float:
        """How much of the tolerance was used up, 0 to 1 for a pass; 0 where there is nothing to measure."""
        c = self.comparison
        used = [] if c is None else [(c.max_abs, c.limit), (c.nmse, self.tolerance.nmse)]
        shares = [v / most if most else math.inf if v else 0.0 for v, most in used if most is not None]
        return max(shares, default=0.0)

    @property
    def difference(self) -> str:
        """The largest difference and what was allowed, in a few characters."""
        c, allowed = self.comparison, self.tolerance.nmse
        if c is None:
            return self.note.split(";")[0]
        if c.max_abs == 0:
            return "identical bits" if c.limit == 0 else "0"
        if c.limit is not None:
            return f"{c.max_abs:.2g} of {c.limit:.2g}"
        return f"NMSE {c.nmse:.1e}" + (f" of {allowed:.0e}" if allowed is not None else "")


@dataclass(slots=True)
class Findings:
    """Collects the results of one profile.

    Attributes:
        stops_at_first: whether the first failure ends the validation.
        results: in the order they were made.
        values: arrays by name, each content once.
    """

    stops_at_first: bool = True
    results: list[StageResult] = field(default_factory=list)
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    _by_content: dict[str, str] = field(default_factory=dict)
    _n_bytes: int = 0

    @property
    def first_failure(self) -> StageResult | None:
        """The first result that failed."""
        return next((result for result in self.results if result.verdict == "fail"), None)

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is to be compared."""
        return self.stops_at_first and self.first_failure is not None

    def compare(
        self,
        location: Location,
        ours: NDArray[Any],
        theirs: NDArray[Any],
        *,
        tolerance: Tolerance | None = None,
        causal_position: int | None = None,
        note: str = "",
    ) -> None:
        """Compare two arrays (see `llorch.validation.compare.compare`) and record it; both are copied.

        Args:
            location: where they stand.
            ours: our values.
            theirs: the reference's, or those of ours that they must equal.
            tolerance: another than the checkpoint's.
            causal_position: of the first query of raw scores [head, query, key]; later keys do not count.
            note: what is compared.
        """
        if ours.shape != theirs.shape:
            note = f"our shape {ours.shape} differs from the reference's {theirs.shape}"
            self.state(location, False, note, {"ours": list(ours.shape), "theirs": list(theirs.shape)})
            return
        tolerance = tolerance or BY_NUMBER[location.checkpoint].tolerance
        mask = None
        if causal_position is not None:
            mask = causal(theirs.shape[-2], causal_position, theirs.shape[-1])
        comparison = compare(ours, theirs, tolerance, mask)
        kept = self._keep(location, ours, theirs, comparison.worst_index, mask)
        figures = {"comparison": comparison, "causal_position": causal_position, "kept": kept}
        self._add(location, comparison.passed, note, tolerance, **figures)

    def state(self, location: Location, passed: bool, note: str, data: Mapping[str, Any]) -> None:
        """Record a result that is no comparison of arrays, and the data that it was judged on."""
        self._add(location, passed, note, BY_NUMBER[location.checkpoint].tolerance, data=dict(data))

    def _add(self, location: Location, passed: bool, note: str, tolerance: Tolerance, **found: Any) -> None:
        found |= {"verdict": "pass" if passed else "fail", "note": note, "tolerance": tolerance.bounds}
        if not passed:
            found["hint"] = hint_of(location.checkpoint, location.stage)
        self.results.append(StageResult(**dict(location), **found))

    def _keep(
        self, location: Location, ours: NDArray[Any], theirs: NDArray[Any], worst: tuple[int, ...], mask: Any
    ) -> KeptArrays | None:
        if not worst:
            return None
        rows: tuple[tuple[int, ...], ...] | None = None
        is_whole_stage = location.way == "end_to_end" and location.stage in KEPT_WHOLE_STAGES
        if theirs.size > KEPT_WHOLE_VALUES and not (is_whole_stage and self._n_bytes < KEPT_BYTES):
            counted = np.abs(theirs) if mask is None else np.where(mask, np.abs(theirs), 0)
            peak = np.unravel_index(int(counted.argmax()), theirs.shape)
            rows = tuple(dict.fromkeys((worst[:-1], tuple(int(i) for i in peak[:-1]))))
            ours, theirs = (np.stack([values[row] for row in rows]) for values in (ours, theirs))
        name = f"theirs/{location.key.split('/', 1)[1]}"
        kept_theirs = self._keep_array(name if rows is None else f"{name}@{location.way}", theirs)
        return KeptArrays(ours=self._keep_array(location.key, ours), theirs=kept_theirs, rows=rows)

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
