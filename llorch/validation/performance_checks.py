"""Re-checking the figures of a `performance` bundle: all of them must follow from its runs.

There are two forms: engines that were run in tests of speed, and servers under load.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from llorch.bench.verdicts import verdict_of
from llorch.validation.bundle import Bundle
from llorch.validation.fingerprint_checks import check_fingerprints
from llorch.validation.records import Record

ENGINES_FILE = "performance.json"
SERVERS_FILE = "servers.json"
RUNS_FILE = "runs.ndjson"


def check_performance(bundle: Bundle) -> None:
    """Medians, extremes, ratios and verdicts follow from the runs; what does not becomes a problem of `bundle`."""
    if SERVERS_FILE in bundle.index.files:
        _check_servers(bundle)
    else:
        _check_engines(bundle)


class _Case(Record):
    model: dict[str, Any]
    test: str
    engines: dict[str, dict[str, Any]]
    ratios: dict[str, dict[str, float]] | None = None
    peer: str | None = None  # with `ratio`, what bundles of a single peer have in place of `ratios`
    ratio: float | None = None
    verdict: dict[str, Any] | None = None  # bundles of before there were verdicts have none


class _Performance(Record):
    cases: tuple[_Case, ...]


class _Run(Record):
    model: str
    test: str
    engine: str
    tokens_per_s: float
    round: int = 0
    output: dict[str, Any] | None = None

    def rate(self, name: str) -> float:
        """A rate in GB/s that llorch says of its runs; 0 where there is none."""
        found = (self.output or {}).get(name)
        return found if isinstance(found, int | float) else 0.0


def _check_engines(bundle: Bundle) -> None:
    """Medians, extremes and ratios follow from the runs."""
    document = bundle.record(ENGINES_FILE, _Performance)
    speeds: dict[tuple[str, str, str], list[float]] = {}
    runs: defaultdict[tuple[str, str], list[_Run]] = defaultdict(list)
    read: defaultdict[tuple[str, int], float] = defaultdict(float)  # GB/s by model and round
    for run in bundle.rows(RUNS_FILE, _Run):
        speeds.setdefault((run.model, run.test, run.engine), []).append(run.tokens_per_s)
        runs[run.model, run.test].append(run)
        read[run.model, run.round] = max(read[run.model, run.round], run.rate("read_gb_per_s"))
    check_fingerprints(bundle, {engine for _, _, engine in speeds}, {model for model, _, _ in speeds})
    for case in document.cases:
        file, medians = case.model["file"], {}
        for engine, figures in case.engines.items():
            where, found = f"{file} {case.test} {engine}", speeds.get((file, case.test, engine))
            if not found:
                bundle.problems.append(f"{where}: there are no runs")
                continue
            bundle.n_recomputed += 1
            medians[engine] = statistics.median(found)
            again = {"median": medians[engine], "min": min(found), "max": max(found), "n": len(found)}
            for name, value in again.items():
                text = f"{where}: {name} is recorded as {figures[name]}, the runs give {value}"
                bundle.require(math.isclose(figures[name], value, rel_tol=1e-6), text)
        ratios = {name: figures.get("ratio") for name, figures in (case.ratios or {}).items()}
        ratios |= {case.peer: case.ratio} if case.peer else {}
        if not ratios or len(medians) < len(case.engines):
            continue
        bundle.require(
            len(medians.keys() - ratios.keys()) == 1, f"{file} {case.test}: ratios and engines differ"
        )
        own = next(iter(medians.keys() - ratios.keys()), "")
        for peer in medians.keys() & ratios.keys() if own else ():
            holds = math.isclose(ratios[peer] or 0, medians[own] / medians[peer], rel_tol=1e-6)
            bundle.require(holds, f"{file} {case.test}: ratio {ratios[peer]} to {peer} does not follow")
        if case.verdict is not None:
            _check_verdict(bundle, case, own, runs[file, case.test], read)


def _check_verdict(
    bundle: Bundle, case: _Case, own: str, runs: list[_Run], read: Mapping[tuple[str, int], float]
) -> None:
    """The verdict follows from the runs of all engines of its case, and from the read bandwidth of each round."""
    speeds: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for run in runs:
        speeds[run.engine][run.round] = run.tokens_per_s
    shares = {
        run.round: run.rate("weight_gb_per_s") / read[run.model, run.round]
        for run in runs
        if run.engine == own and read[run.model, run.round]
    }
    again = verdict_of(case.test, speeds.pop(own, {}), speeds, shares)
    gives = asdict(again) if again else {}
    bundle.n_recomputed += 1
    for name in sorted(gives.keys() | (case.verdict or {}).keys()):
        says, found = (case.verdict or {}).get(name), gives.get(name)
        holds = says == found
        if isinstance(says, float) and isinstance(found, float):
            holds = math.isclose(says, found, rel_tol=1e-6)
        text = f"{case.model['file']} {case.test}: the verdict's {name} is recorded as {says}, the runs give {found}"
        bundle.require(holds, text)


class _Load(Record):
    model: str
    load: str
    servers: dict[str, dict[str, float]]


class _Servers(Record):
    rounds_done: int
    medians: tuple[_Load, ...]


class _ServerRun(Record):
    round: int
    model: str
    server: str
    load: str
    figures: dict[str, float]


def _check_servers(bundle: Bundle) -> None:
    """Every figure of a server under a load is the median of its runs, and none of them is left out."""
    document = bundle.record(SERVERS_FILE, _Servers)
    values: defaultdict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    rounds = set()
    for run in bundle.rows(RUNS_FILE, _ServerRun):
        rounds.add(run.round)
        for name, value in run.figures.items():
            values[run.model, run.load, run.server, name].append(value)
    check_fingerprints(bundle, {key[2] for key in values}, {key[0] for key in values})
    holds = rounds == set(range(1, document.rounds_done + 1))
    bundle.require(holds, f"says {document.rounds_done} rounds, the runs are of rounds {sorted(rounds)}")
    recorded = {
        (case.model, case.load, server, name): value
        for case in document.medians
        for server, figures in case.servers.items()
        for name, value in figures.items()
    }
    for key in sorted(recorded.keys() | values.keys()):
        bundle.n_recomputed += 1
        says, found = recorded.get(key), values.get(key)
        gives = statistics.median(found) if found else None
        holds = says is not None and gives is not None and math.isclose(says, gives, rel_tol=1e-6)
        bundle.require(holds, f"{' '.join(key)}: the median is recorded as {says}, the runs give {gives}")
