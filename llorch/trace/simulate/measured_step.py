"""The step that is simulated: the median of the steps of its kind, operation by operation."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llorch.bench.work import Work
from llorch.kernels.layout import CHUNK, CLAIMED_TILES, TILE_ROWS, ceil_div
from llorch.model.attention_tasks import attention_tasks
from llorch.model.config import ModelConfig
from llorch.trace.records import Recording, StepRecord

EACH_HEAD = ("scores", "softmax_maximum", "softmax_exponential", "softmax_normalise", "values")
"""Operations of the observed program of which a thread takes one head of one row at a time."""


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
        operations: their medians.
        seconds: the median step, from the begin of the first operation on thread 0 to the end of the last one.
        undisturbed_s: the same, but the sum of the medians of how long each operation took, barrier included: other
            programs that take a core from a step now and then hardly change it.
        shown: the step whose time is nearest to the median.
        is_observed: whether the observed program ran, whose threads meet after every operation.
    """

    n_rows: int
    n_outputs: int
    n_threads: int
    n_steps: int
    operations: tuple[MeasuredOperation, ...]
    seconds: float
    undisturbed_s: float
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
    medians = [_median_step([steps[i] for i in group], labels, works[group[-1]], config) for group in groups]
    return [replace(median, is_observed=recording.is_observed) for median in medians]


def _median_step(
    steps: Sequence[StepRecord], labels: Sequence[tuple[str, int]], works: Sequence[Work], config: ModelConfig
) -> MeasuredStep:
    stamps = np.stack([step.stamps_ns for step in steps])  # (n_steps, n_run, n_threads, 2)
    work_s = np.median((stamps[..., 1] - stamps[..., 0]).sum(2), 0) / 1e9
    spans = [_span_s(step) for step in steps]
    median_s = statistics.median(spans)
    ends = stamps[..., 1].max(2)  # (n_steps, n_run)
    elapsed = np.diff(ends, axis=1, prepend=stamps[:, 0, 0, :1])
    last = steps[-1]
    pieces = _pieces(labels, works, last, config)
    return MeasuredStep(
        n_rows=last.n_rows,
        n_outputs=last.n_outputs,
        n_threads=last.stamps_ns.shape[1],
        n_steps=len(steps),
        operations=tuple(
            MeasuredOperation(*labels[i], float(seconds), works[i].n_streamed, pieces[i])
            for i, seconds in enumerate(work_s)
        ),
        seconds=median_s,
        undisturbed_s=float(np.median(elapsed, 0).sum()) / 1e9,
        shown=min(steps, key=lambda step: abs(_span_s(step) - median_s)),
    )


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
