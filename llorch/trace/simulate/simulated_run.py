"""`llorch trace --simulate`: from a recording to simulated steps, and checks of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llorch.bench.roofline import Roofline, measure_roofline
from llorch.errors import LlorchError
from llorch.machine.threads import default_threads
from llorch.model.llama import Llama
from llorch.trace.records import Recording
from llorch.trace.simulate.check import Check, checks
from llorch.trace.simulate.handover import measure_handover
from llorch.trace.simulate.measured_step import MeasuredStep, measured_steps
from llorch.trace.simulate.simulation import Costs, Outcome, simulate
from llorch.trace.work import StepWork


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """What was simulated.

    Attributes:
        step: the measured step that it comes from.
        costs: of this machine.
        outcomes: by number of engines, then by policy.
        checks: predictions beside measurements.
    """

    step: MeasuredStep
    costs: Costs
    outcomes: tuple[Outcome, ...]
    checks: tuple[Check, ...]

    @property
    def begun_ns(self) -> int:
        """When the step began that is shown beside the simulated ones."""
        return int(self.step.shown.stamps_ns[0, 0, 0])

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "rows": self.step.n_rows,
            "threads": self.step.n_threads,
            "steps": self.step.n_steps,
            "work_s": self.step.work_s,
            "n_bytes": self.step.n_bytes,
            "bytes_per_s": self.costs.bytes_per_s,
            "barrier_s": {str(n): handover.barrier_s for n, handover in self.costs.handovers.items()},
            "checks": [check.to_json() for check in self.checks],
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
        }


def simulate_run(
    recording: Recording, llama: Llama, kv_type: str, counts: Sequence[int], roofline: Roofline
) -> SimulatedRun:
    """Simulate a typical step of a recording.

    Args:
        recording: what ran.
        llama: on which model; idle, since the machine is measured, too.
        kv_type: number type of its cache.
        counts: numbers of engines.
        roofline: of the model's threads.

    Raises:
        LlorchError: no step was recorded, or too little memory is free to measure how fast it is read.
    """
    if not recording.steps:
        raise LlorchError("--simulate: no step was recorded")
    work = StepWork(llama, kv_type, observed=recording.is_observed)
    works = [work.of(step) for step in recording.steps]
    labels = llama.labels_of(observed=recording.is_observed)
    steps = measured_steps(recording, labels, works, llama.config)
    costs = measure_costs([llama.n_threads, *(step.n_threads for step in steps)], steps, roofline)
    outcomes = simulate(without_repeats(steps[0]), llama.config.n_head_kv, counts, costs)
    return SimulatedRun(steps[0], costs, tuple(outcomes), tuple(checks(steps, costs)))


def measure_costs(
    n_threads: Sequence[int], steps: Sequence[MeasuredStep] = (), roofline: Roofline | None = None
) -> Costs:
    """The memory of this machine, and what it costs threads to meet.

    Memory that others use, too, as on a virtual machine, is faster at some moments than at others. So it is as fast as
    the operations read it where that is faster than the roofline, which is measured after them.

    Args:
        n_threads: numbers of threads to measure, beside one, two, and as many as suit the machine.
        steps: as they were measured.
        roofline: of the most among `n_threads`, if it was measured; the memory's speed is that of as many threads as
            suit the machine, or of more.
    """
    suiting = default_threads()[0]
    most = max(suiting, *n_threads)
    handovers = {n: measure_handover(n) for n in sorted({1, min(2, most), most, *n_threads})}
    if roofline is None or max(n_threads) < suiting:
        roofline = measure_roofline(most)
    fastest = max((step.streamed_per_s for step in steps), default=0.0)
    return Costs(max(roofline.bytes_per_s, fastest), handovers)


def without_repeats(step: MeasuredStep) -> MeasuredStep:
    """The step without the fast path's attention, which the observed program adds for the sake of its bits."""
    if not step.is_observed:
        return step
    kept = tuple(operation for operation in step.operations if operation.label != "attend")
    return replace(step, operations=kept)
