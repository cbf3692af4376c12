"""How far the simulation is from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llorch.trace.simulate.measured_step import MeasuredStep
from llorch.trace.simulate.simulation import Costs, run_shared


@dataclass(frozen=True, slots=True)
class Check:
    """A prediction beside the measurement.

    Attributes:
        n_threads: threads of the steps that are predicted.
        from_threads: threads of the steps whose operations were simulated.
        n_steps: how many were measured.
        n_undisturbed: those during which every thread had its core. Where there are none, all count, and other programs
            are part of the difference.
        off_core: the share of the median step during which a thread was without a core.
        predicted_s: the simulated step.
        measured_s: the measured one (`MeasuredStep.seconds`).
    """

    n_threads: int
    from_threads: int
    n_steps: int
    n_undisturbed: int
    off_core: float
    predicted_s: float
    measured_s: float

    @property
    def difference(self) -> float:
        """Of the prediction from the measured step: 0.1 is 10 % too long."""
        return self.predicted_s / self.measured_s - 1

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "threads": self.n_threads,
            "from_threads": self.from_threads,
            "steps": self.n_steps,
            "undisturbed_steps": self.n_undisturbed,
            "off_core": self.off_core,
            "predicted_s": self.predicted_s,
            "measured_s": self.measured_s,
            "difference": self.difference,
        }


LEAST_STEPS = 8
"""Fewer are not worth predicting: a few steps are trials of another number of threads, which have to wake up first."""


def checks(steps: Sequence[MeasuredStep], costs: Costs) -> list[Check]:
    """Predictions for the numbers of threads that were measured often, each from its own steps and from all others.

    Nothing is fitted: a prediction uses how long threads computed, and what meeting costs, which was measured apart
    from the steps; never how long steps took.

    Args:
        steps: as measured, at least one; the first counts however few they were.
        costs: of the machine.
    """
    steps = [step for i, step in enumerate(steps) if i == 0 or step.n_steps >= LEAST_STEPS]
    return [
        Check(
            n_threads=measured.n_threads,
            from_threads=source.n_threads,
            n_steps=measured.n_steps,
            n_undisturbed=measured.n_undisturbed,
            off_core=measured.off_core,
            predicted_s=run_shared(source, measured.n_threads, costs)[1].makespan_s,
            measured_s=measured.seconds,
        )
        for measured in steps
        for source in sorted(steps, key=lambda step: step is not measured)
    ]
