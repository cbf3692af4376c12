"""What recording a timeline costs: the same generation with and without a recorder, in turns.

    python -m tools.performance.trace_overhead -m smollm2 -n 32 -r 20

Prints one JSON document: milliseconds of a step, wall and CPU time of the process, medians over the turns, with and
without a recorder, and the difference in percent (the median of what neighbouring turns differ by). A turn begins
with a prompt and cold caches, and machines get faster and slower; so `step` has microseconds of single steps, medians,
from as many further generations in which a recorder comes and goes every few steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from llorch.engine.engine import Engine, open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.session import CallerDriver
from llorch.engine.step_watch import StepWatcher
from llorch.settings import Settings
from llorch.trace.recorder import Recorder

GROUP = 8
"""Steps after which the recorder comes or goes. The first of each finds other code in caches, and does not count."""

LONG = 120
"""Tokens of a generation of which single steps are taken."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A generation: milliseconds of a step."""

    wall: float
    cpu: float


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

    def steps(self, recorder: Recorder) -> tuple[list[float], list[float]]:
        """Microseconds of steps without and with the recorder, in a longer generation; its prompt does not count."""
        found: tuple[list[float], list[float]] = [], []
        self._engine.watcher = None
        self._engine.add(replace(self._request, max_tokens=LONG))
        self._engine.step()
        i = 0
        while self._engine.has_work:
            is_recorded = i // GROUP % 2
            self._engine.watcher = recorder if is_recorded else None
            begun_ns = time.perf_counter_ns()
            self._engine.step()
            if i % GROUP:
                found[is_recorded].append((time.perf_counter_ns() - begun_ns) / 1000)
            i += 1
        return found


def step_summary(found: Sequence[tuple[list[float], list[float]]]) -> dict[str, dict[str, float]]:
    """Medians of the steps of some generations."""
    off, on = (median(us for generation in found for us in generation[is_recorded]) for is_recorded in (0, 1))
    difference = {"difference_us": round(on - off, 2), "difference_percent": round(100 * (on - off) / off, 2)}
    return {"step": {"off_us": round(off, 2), "on_us": round(on, 2), **difference}}


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
        steps = [turns.steps(Recorder(loaded.llama)) for _ in range(args.rounds)]
        about = {"model": loaded.name, "threads": loaded.llama.n_threads}
    print(json.dumps(about | summary(pairs) | step_summary(steps), indent=2))


if __name__ == "__main__":
    main()
