"""Recomputes the figures of a `performance` bundle from the single runs in it."""

from __future__ import annotations

import math
import statistics

from llorch.validation.opened_bundle import Bundle

_SAME = 1e-6


def verify_performance(bundle: Bundle) -> None:
    """Medians, extremes and ratios follow from the runs."""
    document = bundle.json("performance.json")
    speeds: dict[tuple[str, str, str], list[float]] = {}
    for run in bundle.rows("runs.ndjson"):
        key = (run["model"], run["test"], run["engine"])
        speeds.setdefault(key, []).append(float(run["tokens_per_s"]))
    for case in document["cases"]:
        medians = {}
        for engine, figures in case["engines"].items():
            where = f"{case['model']['file']} {case['test']} {engine}"
            found = speeds.get((case["model"]["file"], case["test"], engine))
            if not found:
                bundle.problems.append(f"{where}: there are no runs")
                continue
            medians[engine] = statistics.median(found)
            again = {"median": medians[engine], "min": min(found), "max": max(found), "n": len(found)}
            bundle.n_recomputed += 1
            for name, value in again.items():
                if not math.isclose(figures[name], value, rel_tol=_SAME):
                    bundle.problems.append(
                        f"{where}: {name} is recorded as {figures[name]}, the runs give {value}"
                    )
        peer, ratio = case["peer"], case["ratio"]
        if peer and set(medians) == set(case["engines"]):
            (own,) = (engine for engine in medians if engine != peer)
            if not math.isclose(ratio, medians[own] / medians[peer], rel_tol=_SAME):
                bundle.problems.append(
                    f"{case['model']['file']} {case['test']}: ratio {ratio} does not follow"
                )
