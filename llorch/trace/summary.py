"""Where the time of a recording went: by operation, by layer, at barriers, around the forward pass.

Time is shared out so that nothing counts twice: an operation's `seconds` are the mean over the threads of the time in
it, its `waiting_s` the mean of the time at the barrier behind it. Rates are of all threads together, from the first
one's begin to the last one's end.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np

from llorch.bench.roofline import Roofline
from llorch.trace.operations import Operation
from llorch.trace.records import Recording, StepRecord

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Spent:
    """What some operations took and did.

    Attributes:
        n: how often they ran.
        seconds: in them, the mean over the threads.
        waiting_s: at the barriers behind them, the mean over the threads.
        elapsed_s: from the first begin to the last end, which rates are of.
        least_s: the least that the roofline allows.
        n_bytes, n_macs: as `Work` counts them.
    """

    n: int = 0
    seconds: float = 0.0
    waiting_s: float = 0.0
    elapsed_s: float = 0.0
    least_s: float = 0.0
    n_bytes: int = 0
    n_macs: int = 0

    def add(self, other: Spent) -> None:
        """Count others in."""
        self.n += other.n
        self.seconds += other.seconds
        self.waiting_s += other.waiting_s
        self.elapsed_s += other.elapsed_s
        self.least_s += other.least_s
        self.n_bytes += other.n_bytes
        self.n_macs += other.n_macs

    @property
    def gb_s(self) -> float:
        """10^9 bytes per second."""
        return self.n_bytes / 1e9 / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def gmac_s(self) -> float:
        """10^9 multiply-adds per second."""
        return self.n_macs / 1e9 / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def roofline(self) -> float:
        """The least time that was possible, as a share of what they took."""
        return self.least_s / self.elapsed_s if self.elapsed_s else 0.0

    def described(self) -> dict[str, float]:
        """As plain numbers."""
        return {
            "n": self.n,
            "seconds": self.seconds,
            "waiting_s": self.waiting_s,
            "bytes": self.n_bytes,
            "macs": self.n_macs,
            "gb_s": self.gb_s,
            "gmac_s": self.gmac_s,
            "roofline": self.roofline,
        }


@dataclass(slots=True)
class Part:
    """The steps of one kind.

    Attributes:
        name: ``"prompt"`` for steps with rows of a prompt, else ``"decode"``.
        n_steps, n_rows: how many.
        seconds: of all of them.
        scheduling_s: before the forward pass.
        calling_s: in the forward pass, outside of its instructions: it is prepared, and threads are woken.
        sampling_s: after the forward pass.
        cells: what was spent, by label and layer.
    """

    name: str
    n_steps: int = 0
    n_rows: int = 0
    seconds: float = 0.0
    scheduling_s: float = 0.0
    calling_s: float = 0.0
    sampling_s: float = 0.0
    cells: dict[tuple[str, int], Spent] = field(default_factory=dict)

    @property
    def operations(self) -> dict[str, Spent]:
        """What was spent, by label; the longest first."""
        found = _grouped(self.cells, lambda label, layer: label)
        return dict(sorted(found.items(), key=lambda item: -item[1].seconds))

    @property
    def layers(self) -> dict[int, Spent]:
        """What was spent, by layer; -1 outside the layers."""
        return dict(sorted(_grouped(self.cells, lambda label, layer: layer).items()))

    @property
    def waiting_s(self) -> float:
        """At all barriers."""
        return sum(spent.waiting_s for spent in self.cells.values())

    def add(self, step: StepRecord, done: Sequence[Operation], roofline: Roofline) -> None:
        """Count a step in."""
        self.n_steps += 1
        self.n_rows += step.n_rows
        begin, end = step.forward_ns
        self.seconds += (step.ended_ns - step.begun_ns) / 1e9
        self.scheduling_s += (begin - step.begun_ns) / 1e9
        self.sampling_s += (step.ended_ns - end) / 1e9
        self.calling_s += (end - begin) / 1e9
        if not done:
            return
        times = np.array([operation.thread_ns for operation in done], np.int64)
        followed_by = np.concatenate(
            (times[1:, :, 0], np.broadcast_to(times[-1:, :, 1].max(), (1, times.shape[1])))
        )
        inside = (times[..., 1] - times[..., 0]).mean(1) / 1e9
        waiting = (followed_by - times[..., 1]).mean(1) / 1e9
        self.calling_s -= float(inside.sum() + waiting.sum())
        for operation, seconds, waiting_s in zip(done, inside.tolist(), waiting.tolist(), strict=True):
            work = operation.work
            spent = Spent(1, seconds, waiting_s, (operation.ended_ns - operation.begun_ns) / 1e9)
            if work is not None:
                spent.least_s = roofline.seconds(work)
                spent.n_bytes, spent.n_macs = work.n_bytes, work.n_macs
            self.cells.setdefault((operation.label, operation.layer), Spent()).add(spent)

    def described(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "n_steps": self.n_steps,
            "n_rows": self.n_rows,
            "seconds": self.seconds,
            "scheduling_s": self.scheduling_s,
            "calling_s": self.calling_s,
            "sampling_s": self.sampling_s,
            "waiting_s": self.waiting_s,
            "operations": {label: spent.described() for label, spent in self.operations.items()},
            "layers": {str(layer): spent.described() for layer, spent in self.layers.items()},
        }


def _grouped(cells: dict[tuple[str, int], Spent], key: Callable[[str, int], Key]) -> dict[Key, Spent]:
    found: dict[Key, Spent] = {}
    for place, spent in cells.items():
        found.setdefault(key(*place), Spent()).add(spent)
    return found


@dataclass(frozen=True, slots=True)
class Summary:
    """Where a recording's time went.

    Attributes:
        seconds: from the recording's begin to its end.
        parts: steps with rows of prompts, and the others; what there is of them.
        roofline: of this machine, measured in the same run.
        n_dropped: steps that are in `seconds` alone.
    """

    seconds: float
    parts: tuple[Part, ...]
    roofline: Roofline
    n_dropped: int

    @property
    def between_s(self) -> float:
        """Outside of the steps that were kept."""
        return self.seconds - sum(part.seconds for part in self.parts)

    def described(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "seconds": self.seconds,
            "between_steps_s": self.between_s,
            "n_dropped_steps": self.n_dropped,
            "roofline": asdict(self.roofline),
            **{part.name: part.described() for part in self.parts},
        }


def summarise(recording: Recording, operations: Iterable[Sequence[Operation]], roofline: Roofline) -> Summary:
    """Add up a recording.

    Args:
        recording: its steps.
        operations: those of each step, with their work.
        roofline: of this machine.
    """
    parts = {True: Part("prompt"), False: Part("decode")}
    for step, done in zip(recording.steps, operations, strict=True):
        parts[any(chunk.is_prompt for chunk in step.chunks)].add(step, done, roofline)
    kept = tuple(part for part in parts.values() if part.n_steps)
    seconds = (recording.ended_ns - recording.begun_ns) / 1e9
    return Summary(seconds, kept, roofline, recording.n_dropped)
