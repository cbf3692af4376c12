"""Rounds of speed tests: every engine by turns, each in a process of its own, under the same load."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tools.performance.peer_runs import LLORCH, CannotLoadError, PeerError, Run, SpeedTest, run_llorch
from tools.performance.peers import Peer

Key = tuple[Path, str]
BUSY_SHARE = 0.1
"""Share of the CPUs that other work may take without a warning."""


@dataclass
class Comparison:
    """A comparison: what to measure, and the runs so far.

    Attributes:
        cases: models and tests, in order.
        peers: the other engines.
        n_threads: compute threads of all.
        llorch_extra: more arguments of `llorch bench`.
        timeout_s: for one process.
        rounds: by model and test, the runs of each complete round by engine.
        runs: every run in order of time, with its round.
        refusals: why a peer cannot load a model, by peer and model.
        failures: by peer, model and test, what the peer said when it failed otherwise, once per time.
        busy: share of the CPUs that other work took just before each round; empty where it is unknown.
    """

    cases: list[tuple[Path, SpeedTest]]
    peers: list[Peer]
    n_threads: int
    llorch_extra: tuple[str, ...]
    timeout_s: float
    rounds: dict[Key, list[dict[str, Run]]] = field(default_factory=lambda: defaultdict(list))
    runs: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[tuple[str, str], str] = field(default_factory=dict)
    failures: dict[tuple[str, str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    busy: list[float] = field(default_factory=list)

    def run_round(self, number: int, say: Callable[[str], None]) -> None:
        """Run everything once more; even rounds begin with llorch, odd ones with the last peer.

        A peer that cannot load a model is not asked again. One that fails otherwise is asked again in the next round:
        an hour of other measurements shall not be lost, nor a fast peer left out because of one bad round.

        Raises:
            PeerError: llorch failed.
        """
        busy = _busy_share()
        if busy is not None:
            self.busy.append(busy)
            if busy > BUSY_SHARE:
                say(
                    f"warning: other work takes {100 * busy:.0f} % of the CPUs; this round's speeds mean little"
                )
        for model, test in self.cases:
            engines: list[Peer | None] = [None, *self.peers_for(model, test)]
            found = {}
            for engine in engines if number % 2 == 0 else reversed(engines):
                try:
                    run = self._run(engine, model, test)
                except CannotLoadError as error:
                    if engine is None:
                        raise
                    self.refusals[engine.name, model.name] = str(error)
                    say(f"{engine.name} cannot load {model.name}: {error}")
                    continue
                except PeerError as error:
                    if engine is None:
                        raise
                    self.failures[engine.name, model.name, test.name].append(str(error))
                    say(f"round {number + 1}  {model.name}  {test.name}  {engine.name}  failed: {error}")
                    continue
                say(
                    f"round {number + 1}  {model.name}  {test.name}  {run.engine}  {run.tokens_per_s:,.2f} tokens/s"
                )
                found[run.engine] = run
                self.runs.append({"round": number + 1, "model": model.name, "test": test.name, **asdict(run)})
            self.rounds[model, test.name].append(found)

    def peers_for(self, model: Path, test: SpeedTest) -> list[Peer]:
        """The peers that can run a test on a model, as far as is known."""
        return [
            peer for peer in self.peers if peer.can_run(test) and (peer.name, model.name) not in self.refusals
        ]

    def measured(self, model: Path, test: SpeedTest) -> list[str]:
        """Names of the peers of which there are runs."""
        rounds = self.rounds[model, test.name]
        return [peer.name for peer in self.peers if any(peer.name in found for found in rounds)]

    def read_gb_per_s(self, model: Path) -> list[float]:
        """The read bandwidth of each round: the highest that llorch measured before its tests of `model`.

        Before one test alone, other work can halve it, and a share of 150 % of the memory's speed would follow.
        """
        found = [self.rounds[model, test.name] for path, test in self.cases if path == model]
        return [max(runs[LLORCH].output["read_gb_per_s"] for runs in at) for at in zip(*found, strict=True)]

    def _run(self, engine: Peer | None, model: Path, test: SpeedTest) -> Run:
        """One run of a peer, or of llorch."""
        if engine is None:
            return run_llorch(model, test, self.n_threads, self.llorch_extra, self.timeout_s)
        return engine.run(model, test, self.n_threads, self.timeout_s)


def measure(comparison: Comparison, n_rounds: int, budget_s: float, say: Callable[[str], None]) -> int:
    """Run rounds until all are done or the next would not fit the budget; how many there were."""
    begun = time.monotonic()
    for number in range(n_rounds):
        comparison.run_round(number, say)
        elapsed = time.monotonic() - begun
        if number + 1 < n_rounds and elapsed * (number + 2) / (number + 1) > budget_s:
            say(f"stopping after {number + 1} of {n_rounds} rounds: the next would not fit --budget")
            return number + 1
    return n_rounds


def _busy_share() -> float | None:
    """Share of all CPU time that other processes take during one second; None where unknown."""

    def times() -> list[int]:
        return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]

    try:
        before = times()
        time.sleep(1)
        spent = [b - a for a, b in zip(before, times(), strict=True)]
    except (OSError, ValueError):
        return None
    idle = spent[3] + spent[4]  # idle, waiting for a disk
    return 1 - idle / sum(spent) if sum(spent) else None
