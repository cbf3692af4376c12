"""What a trace says about itself: model, machine, steps, and totals of every operation of every layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from llorch.bench.roofline import Roofline
from llorch.kernels import paths
from llorch.open_model import OpenModel
from llorch.trace.operations import Operation
from llorch.trace.records import Recording
from llorch.trace.totals import OperationTotals, about_step
from llorch.version import __version__


def about_run(
    loaded: OpenModel,
    kv_type: str,
    recording: Recording,
    operations: Sequence[Sequence[Operation]],
    roofline: Roofline | None = None,
) -> dict[str, Any]:
    """The entry ``llorch`` of a trace, plain JSON.

    Args:
        loaded: the model that ran.
        kv_type: number type of its KV cache.
        recording: its steps.
        operations: of each step.
        roofline: of this machine, if it was measured.
    """
    totals = OperationTotals(roofline)
    for step in operations:
        totals.add(step)
    return {
        "version": __version__,
        "model": {"name": loaded.name},
        "n_threads": loaded.llama.n_threads,
        "kernel_path": paths.path(),
        "kv_type": kv_type,
        "cpu": paths.describe()["cpu"],
        "roofline": roofline and dataclasses.asdict(roofline),
        "n_dropped_steps": recording.n_dropped,
        "steps": [about_step(recording.begun_ns, step) for step in recording.steps],
        "operations": totals.as_json(),
    }
