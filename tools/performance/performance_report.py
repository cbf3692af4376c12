"""Reports of measured speeds: medians and ratios, Markdown, a bar chart."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from llorch.bench import plots
from tools.performance.peer_runs import LLORCH

Case = dict[str, Any]


def summarize(speeds: Sequence[float]) -> dict[str, Any]:
    """Median, extremes and all values."""
    return {
        "n": len(speeds),
        "median": statistics.median(speeds),
        "min": min(speeds),
        "max": max(speeds),
        "samples": list(speeds),
    }


def case_of(
    model: Mapping[str, Any], test: str, rounds: Sequence[Mapping[str, Any]], peer: str | None
) -> Case:
    """The summary of one test on one model.

    Args:
        model: ``file``, ``name``, ``bytes`` and ``sha256``.
        test: name of the test.
        rounds: per round the `Run` of each engine by its name.
        peer: name of the other engine, None when it could not run this test.

    Returns:
        ``engines`` by name; with a peer also ``ratio``, llorch's median divided by the peer's, and its extremes
        over the rounds. ``share_of_read_bandwidth`` is llorch's rate of reading weights divided by the memory
        bandwidth just before.
    """
    names = [LLORCH, peer] if peer else [LLORCH]
    engines = {name: summarize([r[name].tokens_per_s for r in rounds]) for name in names}
    case: Case = {"model": model, "test": test, "engines": engines, "peer": peer, "ratio": None}
    outputs = [r[LLORCH].output for r in rounds]
    shares = [o["weight_gb_per_s"] / o["read_gb_per_s"] for o in outputs]
    case["share_of_read_bandwidth"] = summarize(shares)
    case["read_gb_per_s"] = summarize([o["read_gb_per_s"] for o in outputs])
    case["gmac_per_s"] = summarize([o["gmac_per_s"] for o in outputs])
    if peer:
        ratios = [r[LLORCH].tokens_per_s / r[peer].tokens_per_s for r in rounds]
        case["ratio"] = engines[LLORCH]["median"] / engines[peer]["median"]
        case["ratio_min"], case["ratio_max"] = min(ratios), max(ratios)
    return case


def speed(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(cases: Sequence[Case], peer: str | None) -> str:
    """The short Markdown table: medians and ratios, one line per model and test."""
    heading = ["model", "test", "llorch, tokens/s"] + ([f"{peer}, tokens/s", "ratio"] if peer else [])
    lines = [f"| {' | '.join(heading)} |", f"|{'---|' * len(heading)}"]
    for case in cases:
        cells = [case["model"]["name"], case["test"], speed(case["engines"][LLORCH]["median"])]
        if peer and case["peer"]:
            cells += [speed(case["engines"][peer]["median"]), f"**{case['ratio']:.2f}×**"]
        elif peer:
            cells += ["–", "–"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def details(cases: Sequence[Case]) -> str:
    """The long Markdown table: spreads, memory and arithmetic."""
    heading = ["model", "test", "engine", "median", "min … max", "runs", "ratio by round"]
    heading += ["weights read, share of memory's speed", "GMAC/s"]
    lines = [f"| {' | '.join(heading)} |", f"|{'---|' * len(heading)}"]
    for case in cases:
        for name, engine in case["engines"].items():
            cells = [case["model"]["name"], case["test"], name, speed(engine["median"])]
            cells += [f"{speed(engine['min'])} … {speed(engine['max'])}", str(engine["n"])]
            if name == LLORCH:
                ratio = f"{case['ratio_min']:.2f} … {case['ratio_max']:.2f}" if case["ratio"] else "–"
                share, read = case["share_of_read_bandwidth"]["median"], case["read_gb_per_s"]["median"]
                cells += [ratio, f"{100 * share:.0f} % of {read:.1f} GB/s"]
                cells += [f"{case['gmac_per_s']['median']:.0f}"]
            else:
                cells += ["", "", ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(document: Mapping[str, Any], run_id: str, environment: Mapping[str, Any]) -> str:
    """The whole report in Markdown."""
    kernels = environment["kernels"]
    peer = document["peer"]
    facts = [
        f"CPU: {kernels['cpu']}, {kernels['path']} kernels"
        + (f" (features masked: {kernels['mask']})" if kernels["mask"] else ""),
        f"threads: {document['n_threads']}; rounds: {document['rounds_done']} of {document['rounds_wanted']}",
        f"llorch {environment['llorch']}, commit {environment['commit']}"
        + (", modified" if environment["is_modified"] else ""),
        f"Python {environment['python']}, NumPy {environment['numpy']}, Numba {environment['numba']}, "
        f"{environment['system']}",
        f"other work before the rounds took: {_busy(document)} of the CPUs",
    ]
    if peer:
        facts.insert(3, f"{peer['name']}: {peer['version'] or 'version unknown'}")
    models = {case["model"]["file"]: case["model"] for case in document["cases"]}
    facts += [f"{m['file']}: {m['bytes']:,} bytes, sha256 {m['sha256']}" for m in models.values()]
    name = peer["name"] if peer else None
    rounds = "Rounds alternate: each engine runs each test once per round, in a process of its own, in turns of order."
    parts = [
        f"# Speed: run {run_id}",
        table(document["cases"], name),
        "![bar chart](chart.png)" if document["has_chart"] else plots.HOW_TO_GET,
        "\n".join(f"- {fact}" for fact in facts),
        f"Medians over rounds. {rounds} Ratios are medians by medians.",
        details(document["cases"]),
        "## Commands\n\n" + "\n".join(f"    {command}" for command in document["commands"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _busy(document: Mapping[str, Any]) -> str:
    shares = document["busy_before_rounds"]
    return f"{100 * min(shares):.0f} … {100 * max(shares):.0f} %" if shares else "an unknown share"


def chart(cases: Sequence[Case], note: str) -> bytes | None:
    """A PNG with a bar per engine and test, on a logarithmic axis; None without matplotlib."""
    names = list(dict.fromkeys(name for case in cases for name in case["engines"]))
    speeds = [engine for case in cases for engine in case["engines"].values()]

    def bar(engine: Mapping[str, Any] | None) -> plots.Bar | None:
        if engine is None:
            return None
        return plots.Bar(engine["median"], speed(engine["median"]), (engine["min"], engine["max"]))

    rows = []
    for case in cases:
        ratio = f" ({case['ratio']:.2f}×)" if case["ratio"] else ""
        label = f"{case['model']['name']}, {case['test']}{ratio}"
        rows.append((label, [bar(case["engines"].get(name)) for name in names]))
    return plots.bars(
        f"Speed of {' and '.join(names)}",
        "tokens per second (median; whiskers: slowest and fastest round)",
        rows,
        names,
        x_range=(min(engine["min"] for engine in speeds) / 3, max(engine["max"] for engine in speeds) * 2),
        x_text=lambda x: f"{x:,g}",
        note=note,
    )
