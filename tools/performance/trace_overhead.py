"""What recording a timeline costs: the same generation with and without a recorder, in turns.

    python -m tools.performance.trace_overhead -m demo -t 1 -n 32 -r 400

Prints one JSON document. `wall` and `cpu` are milliseconds of a step, wall and CPU time of the process, medians over
the turns, with and without a recorder, and the difference in percent (the median of what neighbouring turns differ by).
A turn begins with a prompt and cold caches, and machines get faster and slower; so `step` has microseconds of single
steps, from as many further generations: groups of steps without a recorder, without one again, and with one, in
changing order. Its differences are medians of what groups of the same round differ by, with the bounds between which
the median lies with 95 % confidence; `nothing` is what steps without a recorder differ by, which is chance.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from llorch.engine.engine import Engine, open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.session import CallerDriver
from llorch.engine.step_watch import StepWatcher
from llorch.settings import Settings
from llorch.trace.recorder import Recorder

GROUP = 8
"""Steps after which the recorder comes or goes. The first of each finds other code in caches, and does not count."""

ORDERS = tuple(itertools.permutations(range(3)))
"""Of the groups of a round."""

LONG = 120
"""Tokens of a generation of which single steps are taken."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A generation: milliseconds of a step."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Round:
    """Groups of steps that came one after the other: microseconds of a step, the median of each."""

    off: float
    off_again: float
    on: float


class Turns:
    """Generates the same tokens again and again, one step for each.

    Args:
        engine: computes.
        n_tokens: of a turn.
    """

    def __init__(self, engine: Engine, n_tokens: int) -> None:
        self._engine = engine
        self._driver = CallerDriver(engine)
        self._n = n_tokens
        self._orders = itertools.cycle(ORDERS)
        prompt, greedy = tuple(range(5, 9)), SamplingParams(temperature=0)
        self._request = Request("overhead", prompt, greedy, n_tokens, ignore_eos=True)

    def turn(self, watcher: StepWatcher | None) -> Turn:
        """One of them."""
        self._engine.watcher = watcher
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in self._driver.events(self._request):
            pass
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Turn(1000 * wall / self._n, 1000 * cpu / self._n)

    def pair(self, recorder: Recorder, recorded_first: bool) -> tuple[Turn, Turn]:
        """One without the recorder and one with it, in an order of choice: the second finds warmer caches."""
        if recorded_first:
            recorded = self.turn(recorder)
            return self.turn(None), recorded
        return self.turn(None), self.turn(recorder)

    def steps(self, recorder: Recorder) -> list[Round]:
        """Rounds of a longer generation; its prompt does not count."""
        self._engine.watcher = None
        self._engine.add(replace(self._request, max_tokens=LONG))
        self._engine.step()
        watchers = None, None, recorder
        rounds: list[Round] = []
        while True:
            order, medians = next(self._orders), [0.0, 0.0, 0.0]
            for kind in order:
                medians[kind] = self._group(watchers[kind])
            if not self._engine.has_work:
                return rounds
            rounds.append(Round(*medians))

    def _group(self, watcher: StepWatcher | None) -> float:
        """The median of a group of steps, in microseconds."""
        self._engine.watcher = watcher
        if watcher is not None:
            watcher.chunks = None  # their tokens have come without it since
        lasted_ns = []
        for _ in range(GROUP):
            begun_ns = time.perf_counter_ns()
            self._engine.step()
            lasted_ns.append(time.perf_counter_ns() - begun_ns)
        return median(lasted_ns[1:]) / 1000


def median_bounds(values: Sequence[float]) -> tuple[float, float]:
    """Between which of `values` the median of what they are samples of lies, with 95 % confidence."""
    ordered, last = sorted(values), len(values) - 1
    reach = 0.98 * math.sqrt(
        len(values)
    )  # in ranks, on both sides of the middle: the binomial distribution's
    return ordered[max(0, math.floor(last / 2 - reach))], ordered[min(last, math.ceil(last / 2 + reach))]


def difference(off_us: Sequence[float], on_us: Sequence[float]) -> dict[str, Any]:
    """The median of what pairs differ by: microseconds, their bounds, and percent."""
    found = [on - off for off, on in zip(off_us, on_us, strict=True)]
    us = median(found)
    bounds = [round(bound, 2) for bound in median_bounds(found)]
    return {"us": round(us, 2), "us_95": bounds, "percent": round(100 * us / median(off_us), 2)}


def step_summary(rounds: Sequence[Round]) -> dict[str, dict[str, Any]]:
    """What single steps differ by."""
    off = [r.off for r in rounds]
    return {
        "step": {
            "rounds": len(rounds),
            "off_us": round(median(off), 2),
            "nothing": difference(off, [r.off_again for r in rounds]),
            "recorder": difference(off, [r.on for r in rounds]),
        }
    }


def summary(pairs: Sequence[tuple[Turn, Turn]]) -> dict[str, dict[str, float]]:
    """Medians by clock."""
    found = {}
    for clock in ("wall", "cpu"):
        times = [(getattr(off, clock), getattr(on, clock)) for off, on in pairs]
        found[clock] = {
            "off_ms": round(median(off for off, _ in times), 4),
            "on_ms": round(median(on for _, on in times), 4),
            "difference_percent": round(100 * median((on - off) / off for off, on in times), 2),
        }
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--model", default="demo")
    parser.add_argument("-n", "--n-gen", type=int, default=32, help="tokens of a turn, one step each (32)")
    parser.add_argument("-r", "--rounds", type=int, default=20, help="turns of each kind (20)")
    parser.add_argument(
        "-t", "--threads", type=int, default=0, help="compute threads (as many as suit the CPU)"
    )
    args = parser.parse_args()
    settings = Settings(model=args.model, threads=args.threads, parallel=1, prefix_cache=False)
    with open_configured(settings) as loaded:
        turns = Turns(Engine(loaded, settings), args.n_gen)
        for _ in range(2):
            turns.turn(None)
        pairs = [turns.pair(Recorder(loaded.llama), i % 2 == 0) for i in range(args.rounds)]
        rounds = [r for _ in range(args.rounds) for r in turns.steps(Recorder(loaded.llama))]
        about = {"model": loaded.name, "threads": loaded.llama.n_threads}
    print(json.dumps(about | summary(pairs) | step_summary(rounds), indent=2))


if __name__ == "__main__":
    main()
