#!/usr/bin/env python3
"""Schedule one block of Llama-3.2-1B on compute engines, with durations measured on this machine.

    python -m tools.trace.seed_picture -o block.json --png block.png

The block has the sizes of Llama-3.2-1B (D = 2048, 32 heads, 8 KV heads) and random Q8_0 weights; it computes one token
behind 4 others. Its operations are measured one by one on one thread, the softmax in three passes, and then scheduled:
on one engine; on 4 with independent operations at once; with heads at once, too; with two and more tokens in flight;
and with every operation shared out among all engines, as llorch does it. The file opens in https://ui.perfetto.dev;
the picture needs matplotlib (extra `plots`).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from llorch.cli.console import print_rows
from llorch.engine.engine import Engine, open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.session import CallerDriver
from llorch.settings import Settings
from llorch.trace.perfetto import Timeline
from llorch.trace.recorder import Recorder
from llorch.trace.simulate.measured_step import MeasuredStep, measured_steps
from llorch.trace.simulate.simulated_run import measure_costs, without_repeats
from llorch.trace.simulate.simulation import Outcome, simulate
from llorch.trace.simulate.timelines import add_outcomes
from llorch.trace.work import StepWork
from tools.performance.make_synthetic import make_synthetic
from tools.performance.synthetic_shapes import SHAPES
from tools.trace.gantt import draw_gantt

BLOCK = replace(SHAPES["llama-3.2-1B"], n_layer=1, n_vocab=1, n_ctx_train=512)
"""One block; the vocabulary is that of the demo model, since its size does not matter to the block."""
VOCABULARY = Path(__file__).resolve().parents[2] / "llorch" / "assets" / "demo.gguf"
N_PAST = 4
N_RUNS = 60


def main(words: Sequence[str] | None = None) -> int:
    """Measure, schedule, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("block.json"), help="timelines (block.json)"
    )
    parser.add_argument("--png", type=Path, help="also draw them into this file")
    parser.add_argument(
        "--engines", type=int, choices=range(2, 17), default=4, metavar="N", help="2 to 16 (4)"
    )
    args = parser.parse_args(words)
    if args.png and find_spec("matplotlib") is None:
        parser.error("--png: pictures are drawn by matplotlib: pip install 'llorch[plots]'")
    for path in filter(None, (args.output, args.png)):
        if not path.parent.is_dir():
            parser.error(f"there is no folder {path.parent}")
    step = measured_block()
    outcomes = simulate(step, BLOCK.n_head_kv, [1, args.engines], measure_costs([1]))
    timeline = Timeline(0)
    add_outcomes(timeline, outcomes, 0)
    timeline.write(args.output, {"outcomes": [outcome.to_json() for outcome in outcomes]})
    print_operations(step)
    print_outcomes(outcomes)
    if args.png:
        title = f"One block of {BLOCK.like}, {N_PAST} past tokens, measured durations"
        draw_gantt(title, [outcomes[0], *(o for o in outcomes if o.schedule.machine.n_engines > 1)], args.png)
    return 0


def measured_block() -> MeasuredStep:
    """The operations of the block for a token with `N_PAST` before it: medians of `N_RUNS` steps on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "block.gguf"
        make_synthetic(BLOCK, VOCABULARY, path, name="one block")
        settings = Settings(model=str(path), threads=1, ctx_size=64, prefix_cache=False)
        with open_configured(settings) as loaded:
            engine = Engine(loaded, settings)
            engine.watcher = recorder = Recorder(loaded.llama, observed=True)
            driver = CallerDriver(engine)
            prompt, params = tuple(range(5, 5 + N_PAST)), SamplingParams(temperature=0)
            for i in range(N_RUNS):
                for _ in driver.events(Request(str(i), prompt, params, 2, ignore_eos=True)):
                    pass
            recording = recorder.finish()
            steps = tuple(step for step in recording.steps if step.positions == [N_PAST])
            work = StepWork(loaded.llama, settings.kv_type, observed=True)
            labels = loaded.llama.labels_of(observed=True)
            works = [work.of(step) for step in steps]
            (step,) = measured_steps(
                dataclasses.replace(recording, steps=steps), labels, works, loaded.llama.config
            )
    block = tuple(operation for operation in without_repeats(step).operations if operation.layer == 0)
    return replace(step, operations=block)


def print_operations(step: MeasuredStep) -> None:
    """What was measured."""
    print(f"{step.n_steps} steps on one thread: medians")
    print_rows([(o.label, f"{1e6 * o.work_s:.2f} us", f"{o.n_bytes} bytes") for o in step.operations])


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """What came of it."""
    rows = [("engines", "policy", "us/token", "speed-up", "busy", "memory")]
    for outcome in outcomes:
        run = outcome.schedule
        rows.append(
            (
                str(run.machine.n_engines),
                outcome.policy,
                f"{1e6 * outcome.seconds_each:.1f}",
                f"{outcome.speedup:.2f}",
                f"{run.utilisation:.0%}",
                f"{run.memory_utilisation:.0%}",
            )
        )
    print_rows(rows)


if __name__ == "__main__":
    sys.exit(main())
