"""What a step of the engine takes: a measured table over rows of prompts and of answers, and what contexts cost."""

from __future__ import annotations

import bisect
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llorch.engine.scheduler import Chunk


class StepTimesError(Exception):
    """A file of step times cannot be used."""


@dataclass(frozen=True, slots=True)
class Costs:
    """One measured table; all times are seconds.

    Attributes:
        forward: of the forward pass, without what contexts cost; a row for each of `n_decode`, in it one for each of
            `n_prompt`.
        outside: of the rest of the step (scheduling, sampling, events), in the same shape.
        decode_position: for each position that a row of an answer looks at.
        prompt_position: for each position that a row of a prompt looks at.
    """

    forward: tuple[tuple[float, ...], ...]
    outside: tuple[tuple[float, ...], ...]
    decode_position: float
    prompt_position: float


@dataclass(frozen=True, slots=True)
class Load:
    """What a step computes, as far as its time depends on it.

    Attributes:
        n_decode: rows of answers.
        n_prompt: rows of prompts.
        decode_positions: positions that the rows of answers look at, all together.
        prompt_positions: the same for the rows of prompts.
    """

    n_decode: int
    n_prompt: int
    decode_positions: int
    prompt_positions: int

    @classmethod
    def of(cls, chunks: Sequence[Chunk]) -> Load:
        """The load of a step before it is counted as computed."""
        n_decode = n_prompt = decode_positions = prompt_positions = 0
        for chunk in chunks:
            begin, n = chunk.sequence.n_computed, chunk.n_tokens
            positions = n * begin + n * (n - 1) // 2
            if chunk.sequence.n_pending > 1:
                n_prompt += n
                prompt_positions += positions
            else:
                n_decode += n
                decode_positions += positions
        return cls(n_decode, n_prompt, decode_positions, prompt_positions)


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Measured step times of a model with so many threads.

    Attributes:
        n_decode: sequences in decode that were measured, ascending from 0.
        n_prompt: rows of prompts that were measured, ascending from 0.
        alone: while the other cores of the machine were idle.
        beside: while another replica computed on each of them.
        about: model, threads, cores, CPU, bytes of KV cache per token, positions that cost as much as a row.
    """

    n_decode: tuple[int, ...]
    n_prompt: tuple[int, ...]
    alone: Costs
    beside: Costs
    about: dict[str, Any]

    @property
    def positions_like_a_row(self) -> float:
        """How many positions the engine takes to cost as much as a row."""
        return float(self.about.get("positions_like_a_row", math.inf))

    def seconds(self, load: Load, costs: Costs) -> tuple[float, float]:
        """Seconds of the forward pass and of the rest, interpolated; beyond the table, its last slope goes on."""
        i, x = _place(self.n_decode, load.n_decode)
        j, y = _place(self.n_prompt, load.n_prompt)
        attention_s = (
            costs.decode_position * load.decode_positions + costs.prompt_position * load.prompt_positions
        )
        return _between(costs.forward, i, x, j, y) + attention_s, _between(costs.outside, i, x, j, y)

    def save(self, path: Path) -> None:
        """Write a JSON file."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> StepTimes:
        """Read what `save` has written.

        Raises:
            StepTimesError: it is no such file.
        """
        try:
            document = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise StepTimesError(f"{path}: expected step times of measure_steps ({error})") from None
        return cls.of(document, str(path))

    @classmethod
    def of(cls, document: Any, where: str) -> StepTimes:
        """The table of a JSON document.

        Raises:
            StepTimesError: there is none in it.
        """
        try:
            alone, beside = (_costs(document[name]) for name in ("alone", "beside"))
            n_decode, n_prompt = tuple(document["n_decode"]), tuple(document["n_prompt"])
            times = cls(n_decode, n_prompt, alone, beside, document["about"])
        except (KeyError, TypeError) as error:
            raise StepTimesError(f"{where}: expected step times of measure_steps ({error!r})") from None
        times.check(where)
        return times

    @classmethod
    def median(cls, tables: Sequence[StepTimes]) -> StepTimes:
        """The median of each cell of tables of the same axes: machines are not equally fast at all times.

        Raises:
            StepTimesError: the axes differ.
        """
        first = tables[0]
        if any((of.n_decode, of.n_prompt) != (first.n_decode, first.n_prompt) for of in tables):
            raise StepTimesError("expected tables of equal axes")
        alone, beside = (_median([getattr(of, name) for of in tables]) for name in ("alone", "beside"))
        return cls(first.n_decode, first.n_prompt, alone, beside, first.about)

    def check(self, where: str) -> None:
        """Refuse tables that do not fit their axes.

        Raises:
            StepTimesError: one does not.
        """
        for axis in (self.n_decode, self.n_prompt):
            if len(axis) < 2 or axis[0] != 0 or sorted(set(axis)) != list(axis):
                raise StepTimesError(f"{where}: expected two or more ascending counts from 0, got {axis}")
        for costs in (self.alone, self.beside):
            for table in (costs.forward, costs.outside):
                if [len(row) for row in table] != [len(self.n_prompt)] * len(self.n_decode):
                    raise StepTimesError(
                        f"{where}: expected tables of {len(self.n_decode)} x {len(self.n_prompt)}"
                    )


def _costs(document: dict[str, Any]) -> Costs:
    forward, outside = (tuple(tuple(row) for row in document[name]) for name in ("forward", "outside"))
    return Costs(forward, outside, document["decode_position"], document["prompt_position"])


def _median(found: Sequence[Costs]) -> Costs:
    forward, outside = (
        tuple(
            tuple(statistics.median(cell) for cell in zip(*rows, strict=True))
            for rows in zip(*(getattr(costs, name) for costs in found), strict=True)
        )
        for name in ("forward", "outside")
    )
    decode_position, prompt_position = (
        statistics.median(getattr(costs, name) for costs in found)
        for name in ("decode_position", "prompt_position")
    )
    return Costs(forward, outside, decode_position, prompt_position)


def _place(axis: Sequence[int], value: int) -> tuple[int, float]:
    """The interval of `axis` that `value` belongs to, and where in it, 0 to 1; beyond the end, more."""
    i = min(max(bisect.bisect_right(axis, value) - 1, 0), len(axis) - 2)
    return i, (value - axis[i]) / (axis[i + 1] - axis[i])


def _between(table: Sequence[Sequence[float]], i: int, x: float, j: int, y: float) -> float:
    low = table[i][j] * (1 - y) + table[i][j + 1] * y
    high = table[i + 1][j] * (1 - y) + table[i + 1][j + 1] * y
    return max(low * (1 - x) + high * x, 0.0)
