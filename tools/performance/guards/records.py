"""What the guards' ratios were when somebody recorded them, by kind of CPU and kernel path, and whether one is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from llorch.kernels import paths
from llorch.machine.hardware import hardware
from tools.performance.guards.runs import ROOT

TABLE = ROOT / "tests" / "perf" / "guards.json"
COMMAND = "python -m tools.performance.record_guards"

MOST_LOST = 0.10
"""Share of a recorded ratio that may be lost."""
MOST_LOST_FROM_MEMORY = 0.15
"""The same where weights come from memory: that of a machine whose neighbours use it gives 18 to 46 GB/s, and a core
that multiplies is not so much faster as one that only reads."""
BEYOND_DOUBT = 0.05
"""A ratio that has lost no more is not measured again: noise does not hide so much of 15 %."""
N_VALUES = 5
"""Of a guard in doubt, each from a new process. The second best counts: whatever else the machine does took 13 % from
all ratios of one process in five, and added to none; a real loss is in all of them."""

Records: TypeAlias = dict[str, dict[str, float]]
"""Ratio by kernel path and name."""


def this_cpu() -> str:
    """Which design of CPU this is, e.g. ``"AuthenticAMD-25-17-1"``: vendor, family, model and stepping.

    Many designs share a marketing name. Where the system does not say, it is LLVM's name of it.
    """
    cpu = hardware()["cpu"]
    numbers = [cpu[name] for name in ("vendor", "family", "model_number", "stepping")]
    return "-".join(numbers) if all(numbers) else paths.host_name()


def read(cpu: str, table: Path = TABLE) -> Records:
    """The records of a design of CPU (`this_cpu`), empty where there are none."""
    found: dict[str, Records] = json.loads(table.read_text("utf-8"))
    return found.get(cpu, {})


def write(cpu: str, records: Records, table: Path = TABLE) -> None:
    """Replace the records of a design of CPU for the kernel paths that there are in `records`, and nothing else."""
    found: dict[str, Records] = json.loads(table.read_text("utf-8")) if table.exists() else {}
    rounded = {path: {n: float(f"{r:.3g}") for n, r in of.items()} for path, of in records.items()}
    found[cpu] = found.get(cpu, {}) | rounded
    table.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")


def second_best(values: Sequence[float]) -> float:
    """The second highest, or the only one."""
    return sorted(values)[-2:][0]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A guard, and what was found.

    Attributes:
        name: of the guard.
        recorded: its ratio when it was recorded.
        values: ratios measured now.
    """

    name: str
    recorded: float
    values: tuple[float, ...]

    @property
    def share(self) -> float:
        """What is left of the recorded ratio: 1 is all of it."""
        return second_best(self.values) / self.recorded

    @property
    def is_lost(self) -> bool:
        """Whether more is lost than may be."""
        return self.share < 1 - (MOST_LOST_FROM_MEMORY if "from memory" in self.name else MOST_LOST)

    def __str__(self) -> str:
        values = ", ".join(f"{value:.3g}" for value in self.values)
        return f"{self.name}: {self.share:.2f} of the recorded {self.recorded:.3g} ({values})"


Measure: TypeAlias = Callable[[frozenset[str] | None], Mapping[str, list[float]]]
"""Ratios of the guards of some names, or of all, each time anew."""


def judge(recorded: Mapping[str, float], measure: Measure, n_values: int = N_VALUES) -> list[Verdict]:
    """Measure all guards, and those in doubt again.

    Args:
        recorded: ratio by name.
        measure: called once for all guards, then for those in doubt.
        n_values: of a guard in doubt.

    Raises:
        KeyError: other guards are recorded than there are; records must be made anew.
    """
    values = {name: list(found) for name, found in measure(None).items()}
    if values.keys() != recorded.keys():
        raise KeyError(
            f"not recorded, or gone: {sorted(values.keys() ^ recorded.keys())}; record anew: {COMMAND}"
        )

    def is_in_doubt(name: str) -> bool:
        return second_best(values[name]) < (1 - BEYOND_DOUBT) * recorded[name]

    while doubted := frozenset(n for n in values if is_in_doubt(n) and len(values[n]) < n_values):
        for name, found in measure(doubted).items():
            values[name] += found
    return [Verdict(name, recorded[name], tuple(found)) for name, found in values.items()]
