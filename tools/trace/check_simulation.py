#!/usr/bin/env python3
"""Compare simulated steps with measured ones: every number of threads predicted from every other.

    python -m tools.trace.check_simulation smollm2 -t 1,2

The model generates with each number of threads; what its operations took with one is scheduled on as many engines as
another has threads. Nothing is fitted. Other programs take cores from steps: those steps are left out, unless there are
no others, which the columns "undisturbed" and "off core" show.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from llorch.cli.console import print_rows
from llorch.engine.engine import open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.errors import LlorchError
from llorch.settings import Settings
from llorch.trace.simulate.check import Check, checks
from llorch.trace.simulate.measured_step import MeasuredStep, measured_steps
from llorch.trace.simulate.simulated_run import measure_costs
from llorch.trace.traced_run import record_run
from llorch.trace.work import StepWork

N_TOKENS = 40
PROMPT = tuple(range(5, 25))
HEADINGS = ("threads", "from", "steps", "undisturbed", "off core", "predicted", "measured", "difference")


def main(words: Sequence[str] | None = None) -> int:
    """Measure, predict, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("-t", "--threads", type=numbers, default=[1, 2], help="numbers of threads (1,2)")
    args = parser.parse_args(words)
    try:
        steps = [step for n in args.threads if (step := measured(args.model, n)) is not None]
    except LlorchError as error:
        parser.error(str(error))
    if steps:
        print_rows([HEADINGS, *map(cells, checks(steps, measure_costs(args.threads, steps)))])
    return 0


def numbers(text: str) -> list[int]:
    """Numbers of threads."""
    return [int(word) for word in text.split(",")]


def measured(model: str, n_threads: int) -> MeasuredStep | None:
    """Decoding on `n_threads` threads; None where llorch has found fewer to be faster."""
    settings = Settings(model=model, threads=n_threads, ctx_size=128)
    request = Request("check", PROMPT, SamplingParams(temperature=0), N_TOKENS, ignore_eos=True)
    with open_configured(settings) as loaded:
        llama = loaded.llama
        recording = record_run(loaded, settings, request, watches_cores=True).recording
        work = StepWork(llama, settings.kv_type)
        works = [work.of(step) for step in recording.steps]
        found = measured_steps(recording, llama.labels, works, llama.config)
    if found[0].n_threads != n_threads:
        print(
            f"{n_threads} threads: most steps ran on {found[0].n_threads}, which were faster", file=sys.stderr
        )
        return None
    return found[0]


def cells(check: Check) -> tuple[str, ...]:
    """A row of the table."""
    return (
        str(check.n_threads),
        str(check.from_threads),
        str(check.n_steps),
        str(check.n_undisturbed),
        f"{check.off_core:.1%}",
        f"{1000 * check.predicted_s:.3f} ms",
        f"{1000 * check.measured_s:.3f} ms",
        f"{check.difference:+.1%}",
    )


if __name__ == "__main__":
    sys.exit(main())
