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
    """A table of each model: real, in the median and from the least to the most; simulated, and how far off."""
    parts = []
    for of_model in document["models"]:
        about = of_model["steps"]["about"]
        rows = [
            "| replicas | load | " + " | ".join(COMPARED.values()) + " |",
            "|---|---|" + "---|" * len(COMPARED),
        ]
        for run in of_model["runs"]:
            cells = " | ".join(_cell(run, key) for key in COMPARED)
            rows.append(f"| {run['replicas']} | {run['load']} | {cells} |")
        where = f"{about['cpu']}, {about['n_cores']} cores, {about['path']} kernels"
        what = f"real, median (least–most) of {len(of_model['rounds'])} → simulated"
        parts.append(f"`{of_model['model']}`, one thread a replica; {where}; {what}:\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def far_apart(document: dict[str, Any]) -> list[str]:
    """What is further apart than allowed, in words."""
    return [
        f"{of_model['model']}, {run['replicas']} replicas, {run['load']}: {heading} is "
        f"{run['simulated'][key]:.4g} simulated, {run['real'][key]:.4g} real "
        f"({run['low'][key]:.3g}–{run['high'][key]:.3g})"
        for of_model in document["models"]
        for run in of_model["runs"]
        for key, heading in COMPARED.items()
        if not _is_near(run, key, document["within"])
    ]


def _is_near(run: dict[str, Any], key: str, within: float) -> bool:
    """Whether a simulated figure is near the median, or among the real ones, which may be further apart."""
    real, simulated = run["real"][key], run["simulated"][key]
    if not (math.isfinite(real) and real > 0):
        return False
    return bool(abs(simulated / real - 1) <= within or run["low"][key] <= simulated <= run["high"][key])


def _cell(run: dict[str, Any], key: str) -> str:
    real, simulated = run["real"][key], run["simulated"][key]
    apart = f"{simulated / real - 1:+.0%}" if math.isfinite(real) and real > 0 else "?"
    return f"{_short(real)} ({_short(run['low'][key])}–{_short(run['high'][key])}) → {_short(simulated)} ({apart})"


def _short(value: float) -> str:
    """Three digits; a thousand and more as a whole number."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
