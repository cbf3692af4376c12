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
        predicted_s: the simulated step.
        measured_s: the median step.
        undisturbed_s: the measured one without disturbances by other programs (`MeasuredStep.undisturbed_s`).
    """

    n_threads: int
    from_threads: int
    n_steps: int
    predicted_s: float
    measured_s: float
    undisturbed_s: float

    @property
    def difference(self) -> float:
        """Of the prediction from the median step: 0.1 is 10 % too long."""
        return self.predicted_s / self.measured_s - 1

    @property
    def undisturbed_difference(self) -> float:
        """Of the prediction from the step without disturbances."""
        return self.predicted_s / self.undisturbed_s - 1

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "threads": self.n_threads,
            "from_threads": self.from_threads,
            "steps": self.n_steps,
            "predicted_s": self.predicted_s,
            "measured_s": self.measured_s,
            "difference": self.difference,
            "undisturbed_s": self.undisturbed_s,
            "undisturbed_difference": self.undisturbed_difference,
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
            predicted_s=run_shared(source, measured.n_threads, costs)[1].makespan_s,
            measured_s=measured.seconds,
            undisturbed_s=measured.undisturbed_s,
        )
        for measured in steps
        for source in sorted(steps, key=lambda step: step is not measured)
    ]
