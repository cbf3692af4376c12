"""Reports of measured speeds: medians and ratios, Markdown, a bar chart."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llorch.bench import plots
from llorch.bench.verdicts import LEVEL, verdict_of
from tools.performance.peer_runs import LLORCH
from tools.performance.speed_table import Case, count, speed, table, type_of

HOW_JUDGED = (
    f"llorch is ahead or behind where the medians differ by more than {100 * LEVEL:.0f} % and three quarters of the "
    "rounds say the same; else level. What is bold is lost or missed."
)
FINGERPRINTS = "hardware, packages and programs, with their hashes: `bundle.json`"


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
    model: Mapping[str, Any],
    test: str,
    rounds: Sequence[Mapping[str, Any]],
    peers: Sequence[str],
    read_gb_per_s: Sequence[float],
) -> Case:
    """The summary of one test on one model.

    Args:
        model: ``file``, ``name``, ``type``, ``bytes`` and ``sha256``.
        test: name of the test.
        rounds: per round the `Run` of each engine by its name.
        peers: names of the other engines that ran it, in all rounds or in some.
        read_gb_per_s: the read bandwidth of each round, of which the verdict takes shares.

    Returns:
        ``engines`` by name; for each peer ``ratios``: llorch's median divided by the peer's, and its extremes over
        the rounds. ``share_of_read_bandwidth`` is llorch's rate of reading weights divided by the memory bandwidth
        just before. ``verdict``: `llorch.bench.verdicts.Verdict`, None without peers.
    """
    by_round = {
        name: {i: r[name].tokens_per_s for i, r in enumerate(rounds, 1) if name in r}
        for name in (LLORCH, *peers)
    }
    engines = {name: summarize(list(found.values())) for name, found in by_round.items()}
    case: Case = {"model": model, "test": test, "engines": engines, "ratios": {}}
    outputs = [r[LLORCH].output for r in rounds]
    shares = [o["weight_gb_per_s"] / o["read_gb_per_s"] for o in outputs]
    case["share_of_read_bandwidth"] = summarize(shares)
    case["read_gb_per_s"] = summarize([o["read_gb_per_s"] for o in outputs])
    case["gmac_per_s"] = summarize([o["gmac_per_s"] for o in outputs])
    for peer in peers:
        ratios = [by_round[LLORCH][i] / theirs for i, theirs in by_round[peer].items()]
        ratio = engines[LLORCH]["median"] / engines[peer]["median"]
        case["ratios"][peer] = {"ratio": ratio, "min": min(ratios), "max": max(ratios)}
    own = by_round.pop(LLORCH)
    of_rounds = [o["weight_gb_per_s"] / read for o, read in zip(outputs, read_gb_per_s, strict=True)]
    verdict = verdict_of(test, own, by_round, dict(enumerate(of_rounds, 1)))
    case["verdict"] = asdict(verdict) if verdict else None
    return case


def details(cases: Sequence[Case]) -> str:
    """The long Markdown table: spreads, memory and arithmetic."""
    heading = ["model", "type", "test", "engine", "median", "min … max", "runs", "llorch's ratio by round"]
    heading += ["weights read, share of memory's speed", "GMAC/s"]
    lines = [f"| {' | '.join(heading)} |", f"|{'---|' * len(heading)}"]
    for case in cases:
        for name, engine in case["engines"].items():
            cells = [
                case["model"]["name"],
                type_of(case["model"]),
                case["test"],
                name,
                speed(engine["median"]),
            ]
            cells += [f"{speed(engine['min'])} … {speed(engine['max'])}", str(engine["n"])]
            if name == LLORCH:
                share, read = case["share_of_read_bandwidth"]["median"], case["read_gb_per_s"]["median"]
                cells += [
                    "",
                    f"{100 * share:.0f} % of {read:.1f} GB/s",
                    f"{case['gmac_per_s']['median']:.0f}",
                ]
            else:
                ratio = case["ratios"][name]
                cells += [f"{ratio['min']:.2f} … {ratio['max']:.2f}", "", ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(document: Mapping[str, Any], run_id: str, environment: Mapping[str, Any]) -> str:
    """The whole report in Markdown."""
    kernels = environment["kernels"]
    peers = document["peers"]
    facts = [
        f"CPU: {kernels['cpu']}, {kernels['path']} kernels"
        + (f" (features masked: {kernels['mask']})" if kernels["mask"] else ""),
        f"threads: {document['n_threads']}; rounds: {document['rounds_done']} of {document['rounds_wanted']}",
        f"llorch {environment['llorch']}, commit {environment['commit']}"
        + (", modified" if environment["is_modified"] else ""),
        f"Python {environment['python']}, NumPy {environment['numpy']}, Numba {environment['numba']}, "
        f"{environment['system']}",
        f"other work before the rounds took: {_busy(document)} of the CPUs",
        FINGERPRINTS,
    ]
    for peer in peers:
        facts.append(f"{peer['name']}: {peer['version'] or 'version unknown'}")
        facts += [f"{peer['name']} cannot load {file}: {why}" for file, why in peer["cannot_load"].items()]
        facts += [
            f"{peer['name']} failed in {case}, {len(said)} times: {said[0]}"
            for case, said in peer["failures"].items()
        ]
    models = {case["model"]["file"]: case["model"] for case in document["cases"]}
    facts += [f"{m['file']}: {m['bytes']:,} bytes, sha256 {m['sha256']}" for m in models.values()]
    rounds = "Rounds alternate: each engine runs each test once per round, in a process of its own, in turns of order."
    parts = [
        f"# Speed: run {run_id}",
        table(document["cases"], [peer["name"] for peer in peers]),
        count(document["cases"]),
        "![bar chart](chart.png)" if document["has_chart"] else plots.HOW_TO_GET,
        "\n".join(f"- {fact}" for fact in facts),
        f"Medians over rounds. {rounds} Ratios are medians by medians. {HOW_JUDGED}" if peers else rounds,
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
        label = f"{case['model']['name']} {type_of(case['model'])}, {case['test']}"
        rows.append((label, [bar(case["engines"].get(name)) for name in names]))
    return plots.bars(
        f"Speed of {', '.join(names)}",
        "tokens per second (median; whiskers: slowest and fastest round)",
        rows,
        names,
        x_range=(min(engine["min"] for engine in speeds) / 3, max(engine["max"] for engine in speeds) * 2),
        x_text=lambda x: f"{x:,g}",
        note=note,
    )
