"""What a report needs of a trace file, checked before it is believed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat

from llorch.errors import InputError, ReferenceDumpError
from llorch.formats.printed import printable
from llorch.report.truth import TruthRecord
from llorch.validation.records import Count, Record, read_record

BYTES_AT_MOST = 512 << 20
CELLS_AT_MOST = 1 << 14

Amount = Annotated[FiniteFloat, Field(ge=0)]


class OperationFigures(Record):
    """An operation of a layer over all steps of the trace.

    Attributes:
        n: how often it ran.
        bytes, macs: what it moved and multiplied.
        roofline: the least time for that over the measured one.
    """

    seconds: Amount
    n: Count
    bytes: Amount = 0
    macs: Amount = 0
    roofline: Amount | None = None


class TracedModel(Record):
    """The model that ran."""

    name: str
    sha256: str | None = None


class Roofs(Record):
    """What the machine reached in the same run."""

    bytes_per_s: FiniteFloat
    integer_macs_per_s: FiniteFloat
    bfloat_macs_per_s: FiniteFloat | None = None  # traces of 2026-11-26 and before lack it
    float_macs_per_s: FiniteFloat


class TracedStep(Record):
    """One step of the engine."""

    rows: Count
    seconds: Amount


class TraceSummary(Record):
    """The key `llorch` of a trace file.

    Attributes:
        operations: figures by operation, then by layer; -1 outside the layers.
        truth: with `--reference`.
    """

    version: str
    model: TracedModel
    n_threads: Count
    kernel_path: str
    kv_type: str
    cpu: str
    roofline: Roofs | None = None
    steps: tuple[TracedStep, ...] = ()
    n_dropped_steps: Count = 0
    operations: dict[str, dict[str, OperationFigures]]
    truth: TruthRecord | None = None


class _TraceFile(Record):
    llorch: TraceSummary


def read_trace(path: Path) -> TraceSummary:
    """The summary in a trace file.

    Raises:
        InputError: it is none that `llorch trace` wrote, or is too large to be read.
    """
    try:
        summary = read_record(_TraceFile, path, BYTES_AT_MOST).llorch
    except ReferenceDumpError as error:
        raise InputError(f"{error}; a trace is what `llorch trace -o FILE` writes") from None
    n_cells = sum(map(len, summary.operations.values()))
    if not 0 < n_cells <= CELLS_AT_MOST:
        raise InputError(
            f"{printable(path)}: llorch: operations has {n_cells} entries, expected 1 to {CELLS_AT_MOST}"
        )
    for label, of_layer in summary.operations.items():
        for layer in of_layer:
            if not _is_layer(layer):
                raise InputError(
                    f"{printable(path)}: llorch: operations: {label} names a layer {layer[:20]!r}"
                )
    return summary


def _is_layer(text: str) -> bool:
    return text == "-1" or (text.isascii() and text.isdecimal() and len(text) <= 4)
