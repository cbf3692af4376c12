"""Tables of a comparison of simulated with real replicas."""

from __future__ import annotations

import math
from typing import Any

COMPARED = {
    "tokens_per_s": "tokens/s",
    "first_p50_ms": "first token p50, ms",
    "first_p95_ms": "first token p95, ms",
    "gap_p50_ms": "between tokens p50, ms",
    "busy_s": "processor, s",
}
"""What is compared, and its heading. Processor time is that of the replicas alone, and hardly depends on who else
computes on the machine."""


def markdown(document: dict[str, Any]) -> str:
    """A table of each model: real / simulated, and how far that is apart."""
    parts = []
    for of_model in document["models"]:
        about = of_model["steps"]["about"]
        rows = [
            "| replicas | load | " + " | ".join(COMPARED.values()) + " |",
            "|---|---|" + "---|" * len(COMPARED),
        ]
        for run in of_model["runs"]:
            cells = " | ".join(_cell(run["real"][key], run["simulated"][key]) for key in COMPARED)
            rows.append(f"| {run['replicas']} | {run['load']} | {cells} |")
        where = f"{about['cpu']}, {about['n_cores']} cores, {about['path']} kernels"
        parts.append(
            f"`{of_model['model']}`, one thread a replica; {where}; real → simulated:\n\n" + "\n".join(rows)
        )
    return "\n\n".join(parts)


def far_apart(document: dict[str, Any]) -> list[str]:
    """What is further apart than allowed, in words."""
    return [
        f"{of_model['model']}, {run['replicas']} replicas, {run['load']}: {heading} is "
        f"{run['simulated'][key]:.4g} simulated, {run['real'][key]:.4g} real"
        for of_model in document["models"]
        for run in of_model["runs"]
        for key, heading in COMPARED.items()
        if not _is_near(run["real"][key], run["simulated"][key], document["within"])
    ]


def _is_near(real: float, simulated: float, within: float) -> bool:
    return math.isfinite(real) and real > 0 and abs(simulated / real - 1) <= within


def _cell(real: float, simulated: float) -> str:
    apart = f"{simulated / real - 1:+.0%}" if math.isfinite(real) and real > 0 else "?"
    return f"{real:.4g} → {simulated:.4g} ({apart})"
