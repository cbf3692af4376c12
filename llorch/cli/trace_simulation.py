"""`llorch trace --simulate`: the flag, and the table."""

from __future__ import annotations

import argparse

from llorch.bench.roofline import Roofline
from llorch.cli import console
from llorch.errors import shown
from llorch.model.llama import Llama
from llorch.trace.perfetto import Timeline
from llorch.trace.records import Recording
from llorch.trace.simulate.check import Check
from llorch.trace.simulate.simulated_run import SimulatedRun, simulate_run
from llorch.trace.simulate.simulation import Outcome
from llorch.trace.simulate.timelines import add_outcomes

MOST_ENGINES = 64
MOST_COUNTS = 8
N_SHOWN = 3
"""Operations of a critical path that are named."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flag."""
    parser.add_argument(
        "--simulate",
        type=_counts,
        metavar="N,...",
        help="also schedule a typical step on so many compute engines, print what would come of it, and add the "
        "simulated timelines to the file",
    )


def _counts(text: str) -> list[int]:
    """Numbers of engines, each once, in order."""
    try:
        counts = sorted({int(word) for word in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers of engines such as 1,2,4,8, got {shown(text)}"
        ) from None
    if not 1 <= counts[0] <= counts[-1] <= MOST_ENGINES or len(counts) > MOST_COUNTS:
        raise argparse.ArgumentTypeError(
            f"expected up to {MOST_COUNTS} numbers of engines from 1 to {MOST_ENGINES}, got {shown(text)}"
        )
    return counts


def simulated(
    args: argparse.Namespace,
    timeline: Timeline,
    recording: Recording,
    llama: Llama,
    kv_type: str,
    roofline: Roofline,
) -> SimulatedRun | None:
    """What --simulate asks for, which is also added to the timeline; None without the flag."""
    if args.simulate is None:
        return None
    run = simulate_run(recording, llama, kv_type, args.simulate, roofline)
    add_outcomes(timeline, run.outcomes, run.begun_ns)
    return run


def document(run: SimulatedRun | None) -> dict[str, object]:
    """The entry ``simulated`` of what a machine reads."""
    return {} if run is None else {"simulated": run.to_json()}


def show(run: SimulatedRun | None) -> None:
    """Print the table and the checks."""
    if run is None:
        return
    step, costs = run.step, run.costs
    barriers = ", ".join(f"{1e6 * h.barrier_s:.2f} us on {n}" for n, h in costs.handovers.items())
    print(
        f"What if: {step.n_steps} steps of {_counted(step.n_rows, 'row')} on {_counted(step.n_threads, 'thread')}, "
        f"a typical one; {console.human_bytes(step.n_bytes)} from memory at {costs.bytes_per_s / 1e9:.1f} GB/s; "
        f"threads meet in {barriers}"
    )
    headings = (
        "engines",
        "policy",
        "makespan",
        f"ms/{step.unit}",
        "speed-up",
        "busy",
        "memory",
        "critical path",
    )
    console.print_rows([headings, *map(_cells, run.outcomes)])
    for check in run.checks:
        print(_sentence(check))


def _sentence(check: Check) -> str:
    source = f" from steps on {check.from_threads}" if check.from_threads != check.n_threads else ""
    return (
        f"Check: {_counted(check.n_threads, 'thread')}{source}: predicted {_ms(check.predicted_s)} ms, measured "
        f"{_ms(check.measured_s)} ms ({check.difference:+.1%}); {_compared(check)}"
    )


def _compared(check: Check) -> str:
    """Which steps the prediction is compared with."""
    if check.n_undisturbed:
        return f"{check.n_undisturbed} of {_counted(check.n_steps, 'step')} had their cores for themselves"
    return (
        f"in every step other programs had a core, for {check.off_core:.0%} of the time: no fair comparison"
    )


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _cells(outcome: Outcome) -> tuple[str, ...]:
    run = outcome.schedule
    longest = list(outcome.chain_s.items())[:N_SHOWN]
    return (
        str(run.machine.n_engines),
        outcome.policy,
        f"{_ms(run.makespan_s)} ms",
        _ms(outcome.seconds_each),
        f"{outcome.speedup:.2f}",
        f"{run.utilisation:.0%}",
        f"{run.memory_utilisation:.0%}",
        ", ".join(f"{label} {seconds / run.makespan_s:.0%}" for label, seconds in longest),
    )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3f}"
