"""The step that is simulated: the mean of the middle steps of its kind, operation by operation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llorch.bench.work import Work
from llorch.kernels.layout import CHUNK, CLAIMED_TILES, TILE_ROWS, ceil_div
from llorch.model.attention_tasks import attention_tasks
from llorch.model.config import ModelConfig
from llorch.trace.records import Recording, StepRecord

EACH_HEAD = ("scores", "softmax_maximum", "softmax_exponential", "softmax_normalise", "values")
"""Operations of the observed program of which a thread takes one head of one row at a time."""

MOST_OFF_CORE = 0.02
"""Share of a step that a thread may be without a core: what other programs take cannot be predicted from operations."""

_STREAMING = 0.05
"""Least share of a step's bytes for an operation to say how fast memory is."""


@dataclass(frozen=True, slots=True)
class MeasuredOperation:
    """An operation as it was measured.

    Attributes:
        label, layer: which.
        work_s: seconds that it kept threads computing, all of them together.
        n_bytes: what came from memory.
        n_pieces: into how many pieces it can be shared out.
    """

    label: str
    layer: int
    work_s: float
    n_bytes: int
    n_pieces: int


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """Steps of one kind: as many rows, outputs and threads.

    Attributes:
        n_rows, n_outputs, n_threads: of each of them.
        n_steps: how many there were.
        n_undisturbed: those during which every thread had its core; where there are any, the others do not count.
        off_core: the share of a step during which a thread was without a core, the median of all steps.
        operations: what they took, the mean of the middle half of the steps that count.
        seconds: how long those took, the mean: from the begin of the first operation on thread 0 to the last end.
        streamed_per_s: bytes per second from memory of the operation that read fastest, 0 where none came from there.
        shown: the step whose time is nearest to the mean.
        is_observed: whether the observed program ran, whose threads meet after every operation.
    """

    n_rows: int
    n_outputs: int
    n_threads: int
    n_steps: int
    n_undisturbed: int
    off_core: float
    operations: tuple[MeasuredOperation, ...]
    seconds: float
    streamed_per_s: float
    shown: StepRecord
    is_observed: bool = False

    @property
    def unit(self) -> str:
        """What it computes, for people."""
        return "token" if self.n_rows == 1 else "step"

    @property
    def work_s(self) -> float:
        """What one engine would take."""
        return sum(operation.work_s for operation in self.operations)

    @property
    def n_bytes(self) -> int:
        """What came from memory."""
        return sum(operation.n_bytes for operation in self.operations)


def measured_steps(
    recording: Recording,
    labels: Sequence[tuple[str, int]],
    works: Sequence[Sequence[Work]],
    config: ModelConfig,
) -> list[MeasuredStep]:
    """The steps that are worth simulating, once for each number of threads that they had, most steps first.

    Those are the steps that generate one token of one sequence; without such steps, those of the commonest size.

    Args:
        recording: of at least one step.
        labels: of the program that ran.
        works: of every instruction of every step.
        config: sizes of the model.
    """
    steps = recording.steps
    sizes: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for i, step in enumerate(steps):
        sizes[step.n_rows, step.n_outputs].append(i)
    size = (1, 1) if (1, 1) in sizes else max(sizes, key=lambda size: (len(sizes[size]), size))
    by_threads: defaultdict[int, list[int]] = defaultdict(list)
    for i in sizes[size]:
        by_threads[steps[i].stamps_ns.shape[1]].append(i)
    groups = sorted(by_threads.values(), key=lambda group: (-len(group), group))
    found = [_middle_step([steps[i] for i in group], labels, works[group[-1]], config) for group in groups]
    return [replace(step, is_observed=recording.is_observed) for step in found]


def _middle_step(
    steps: Sequence[StepRecord], labels: Sequence[tuple[str, int]], works: Sequence[Work], config: ModelConfig
) -> MeasuredStep:
    undisturbed = [step for step in steps if _off_core(step) <= MOST_OFF_CORE]
    middle = _middle_half(undisturbed or steps)
    stamps = np.stack([step.stamps_ns for step in middle])
    taken_s = (stamps[..., 1] - stamps[..., 0]).mean(0) / 1e9  # (n_run, n_threads)
    seconds = float(np.mean([_span_s(step) for step in middle]))
    last = steps[-1]
    pieces = _pieces(labels, works, last, config)
    return MeasuredStep(
        n_rows=last.n_rows,
        n_outputs=last.n_outputs,
        n_threads=last.stamps_ns.shape[1],
        n_steps=len(steps),
        n_undisturbed=len(undisturbed),
        off_core=float(np.median([_off_core(step) for step in steps])),
        operations=tuple(
            MeasuredOperation(*labels[i], float(work_s), works[i].n_streamed, pieces[i])
            for i, work_s in enumerate(taken_s.sum(1))
        ),
        seconds=seconds,
        streamed_per_s=_streamed_per_s(labels, works, taken_s),
        shown=min(middle, key=lambda step: abs(_span_s(step) - seconds)),
    )


def _middle_half(steps: Sequence[StepRecord]) -> Sequence[StepRecord]:
    """Without the quickest and the slowest quarter. Medians of operations would not do: they add up to less."""
    n_left_out = round(len(steps) / 4)
    return sorted(steps, key=_span_s)[n_left_out : len(steps) - n_left_out]


def _off_core(step: StepRecord) -> float:
    begun_ns, ended_ns = step.forward_ns
    return max(step.off_core_ns, default=0) / max(ended_ns - begun_ns, 1)


def _streamed_per_s(
    labels: Sequence[tuple[str, int]], works: Sequence[Work], taken_s: NDArray[np.float64]
) -> float:
    """How fast memory was at least: an operation of all layers lasts as long as its busiest thread."""
    n_bytes: defaultdict[str, int] = defaultdict(int)
    busiest_s: defaultdict[str, float] = defaultdict(float)
    for (label, _), work, seconds in zip(labels, works, taken_s.max(1), strict=False):
        n_bytes[label] += work.n_streamed
        busiest_s[label] += float(seconds)
    least = max(_STREAMING * sum(n_bytes.values()), 1)
    return max((n / busiest_s[label] for label, n in n_bytes.items() if n >= least), default=0.0)


def _span_s(step: StepRecord) -> float:
    return float(step.stamps_ns.max() - step.stamps_ns[0, 0, 0]) / 1e9


def _pieces(
    labels: Sequence[tuple[str, int]], works: Sequence[Work], step: StepRecord, config: ModelConfig
) -> list[int]:
    """Into how many pieces threads can share each instruction out."""
    chunks = {"norm": config.n_embd, "attend": config.n_embd_q, "swiglu": config.n_ff}
    found = []
    for i, (label, layer) in enumerate(labels[: len(works)]):
        n_rows = step.n_outputs if layer < 0 and label != "embed" else step.n_rows
        if label.startswith(("attn_", "ffn_")) or label == "output":
            tiles_at_once = CLAIMED_TILES if n_rows <= 2 else CLAIMED_TILES // 2
            pieces = ceil_div(_n_out(label, config), TILE_ROWS * tiles_at_once)
        elif label in EACH_HEAD:
            pieces = n_rows * config.n_head
        elif label == "attend":
            pieces = _attention_pieces(step, config)
        elif label == "prepare" or label == "swiglu":
            source = "swiglu" if label == "swiglu" else labels[i - 1][0]
            pieces = n_rows * ceil_div(chunks.get(source, config.n_embd), CHUNK)
        else:
            pieces = n_rows
        found.append(max(pieces, 1))
    return found


def _n_out(label: str, c: ModelConfig) -> int:
    return {
        "attn_q": c.n_embd_q, "attn_k": c.n_embd_kv, "attn_v": c.n_embd_kv, "ffn_gate": c.n_ff, "ffn_up": c.n_ff,
        "output": c.n_vocab,
    }.get(label, c.n_embd)  # fmt: skip


def _attention_pieces(step: StepRecord, config: ModelConfig) -> int:
    slots = np.repeat(np.arange(len(step.chunks)), [chunk.n_tokens for chunk in step.chunks]).astype(np.int32)
    positions = np.array(step.positions, np.int32)
    tasks = attention_tasks(positions, slots, config.n_head_kv, step.stamps_ns.shape[1])
    return len(tasks) * config.n_head_kv
