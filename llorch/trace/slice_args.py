"""What the slice of an operation says when it is clicked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llorch.trace.operations import Operation
from llorch.trace.records import StepRecord

if TYPE_CHECKING:  # it would bring the compiler
    from llorch.bench.roofline import Roofline


def slice_args(
    index: int, step: StepRecord, operation: Operation, roofline: Roofline | None
) -> dict[str, object]:
    """Where an operation belongs, and its figures over all threads, from its first begin to its last end."""
    args: dict[str, object] = {"layer": operation.layer, "step": index, "rows": step.n_rows}
    if operation.work is None:
        return args
    work, seconds = operation.work, max(operation.ended_ns - operation.begun_ns, 1) / 1e9
    args |= {
        "shape": work.shape,
        "bytes": work.n_bytes,
        "macs": work.n_macs,
        "gb_s": round(work.n_bytes / seconds / 1e9, 3),
        "gmac_s": round(work.n_macs / seconds / 1e9, 3),
    }
    if roofline is not None:
        args["roofline"] = round(roofline.share(work, seconds), 4)
    return args
