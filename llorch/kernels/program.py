"""A forward pass as a list of instructions, one per operation, that the thread team runs step after step.

The model writes it once; buffers stay where they are from step to step, and what changes (rows, positions, cache) is in
the step. An instruction is a row of int64: the address of the operation's machine code, flags, operands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.kernels.buffers import Activation, Rows
from llorch.kernels.jit import Unit

RECORD = 16
"""int64 per instruction."""

RUN, FLAGS, FIRST_OPERAND = 0, 1, 2
"""Places in an instruction: the operation's address, its flags, the first of its operands."""

NEXT_TILES, NEXT_TILE_STRIDE = RECORD - 2, RECORD - 1
"""Places of the tiles that the following product begins with, 0 where it has none: a product asks for them when its own
are done, so that they arrive during the barrier and what comes before that product."""

BARRIER, OUTPUT_ROWS = 1, 2
"""Flags: wait for all threads afterwards; rows are the step's outputs instead of its batch."""


def operands(n: int) -> range:
    """Places in an instruction for the `n` operands of an operation, to be given names."""
    if FIRST_OPERAND + n > NEXT_TILES:
        raise ValueError(f"an instruction holds {NEXT_TILES - FIRST_OPERAND} operands, {n} are wanted")
    return range(FIRST_OPERAND, FIRST_OPERAND + n)


def float_bits(value: float) -> int:
    """The float32 `value` as an operand (`emit.scalars.float32_of_bits` reads it)."""
    return int(np.float32(value).view(np.int32))


@dataclass(frozen=True, slots=True)
class Tap:
    """A buffer that holds a named intermediate once an instruction is done.

    Attributes:
        name: the public name, e.g. ``"attn_norm"``.
        layer: -1 outside the layers.
        rows: the buffer.
        shape: shape of one row for the probe, e.g. ``(n_head, head_dim)``.
        is_output: rows are the step's outputs instead of its batch.
    """

    name: str
    layer: int
    rows: Rows
    shape: tuple[int, ...]
    is_output: bool = False


class Program:
    """Instructions in order, with labels for timelines and taps for probes; keeps alive what they point to.

    Attributes:
        labels: (operation, layer) of every instruction.
        taps: by index of the instruction that fills their buffers.
        n_without_outputs: instructions that a step needs which wants no logits.
    """

    def __init__(self) -> None:
        self.labels: list[tuple[str, int]] = []
        self.taps: dict[int, list[Tap]] = {}
        self.n_without_outputs = 0
        self._runs: list[Unit] = []
        self._records: list[list[int]] = []
        self._tiles: list[tuple[int, int, int]] = []
        self._activations: dict[int, Activation] = {}
        self._kept: list[object] = []

    def __len__(self) -> int:
        return len(self._records)

    def add(
        self,
        run: Unit,
        label: str,
        layer: int,
        values: Mapping[int, int],
        *,
        keep: Iterable[object],
        fills: Activation | None = None,
        barrier: bool = True,
        outputs: bool = False,
        tiles: tuple[int, int] | None = None,
    ) -> None:
        """Append an instruction.

        Args:
            run: the operation.
            label: its name in timelines.
            layer: its layer, -1 outside the layers.
            values: its operands by their places.
            keep: what the addresses among the operands point into.
            fills: the activation whose forms it fills.
            barrier: whether the next instruction needs the work of all threads.
            outputs: whether it works on the step's outputs instead of its batch.
            tiles: of a product, the address and stride of its tiles, (0, 0) where it has none.
        """
        record = [0] * RECORD
        record[FLAGS] = (BARRIER if barrier else 0) | (OUTPUT_ROWS if outputs else 0)
        for place, value in values.items():
            record[place] = value
        if tiles is not None:
            self._tiles.append((len(self), *tiles))
        self._records.append(record)
        self._runs.append(run)
        self.labels.append((label, layer))
        self._kept.extend(keep)
        if fills is not None:
            self._activations[id(fills)] = fills
        if not outputs:
            self.n_without_outputs = len(self)

    def tap(self, name: str, layer: int, rows: Rows, *shape: int, is_output: bool = False) -> None:
        """Name the buffer that the instruction written last has filled."""
        tap = Tap(name, layer, rows, shape or (rows.n,), is_output)
        self.taps.setdefault(len(self) - 1, []).append(tap)

    def units(self) -> list[Unit]:
        """The units it runs, each once."""
        fills = (form.fill for activation in self._activations.values() for form in activation.forms)
        return list(dict.fromkeys([*self._runs, *fills]))

    def records(self) -> NDArray[np.int64]:
        """All instructions as int64 (n, RECORD); compiles the units that are not loaded yet."""
        for activation in self._activations.values():
            activation.link()
        records = np.array(self._records, np.int64).reshape(-1, RECORD)
        records[:, RUN] = [run.address for run in self._runs]
        for i, (index, _, _) in enumerate(self._tiles):
            _, *following = self._tiles[(i + 1) % len(self._tiles)]  # after the last, the next step's first
            records[index, NEXT_TILES:] = following
        return records
