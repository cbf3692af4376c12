"""One measurement from end to end: perplexity alone, with a base file written, or against one that was."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llorch.open_model import OpenModel
from llorch.progress import Progress, ignore_progress
from llorch.quality.chunks import Chunks
from llorch.quality.divergence import Divergence, Figures
from llorch.quality.estimate import Mean, mean_of, perplexity_of, running_perplexities
from llorch.quality.evaluate import Judge, evaluate
from llorch.quality.log_softmax import negative_log_likelihoods
from llorch.quality.logits_file import BaseFile, writing_base
from llorch.quality.resume import KeptState, kept_state, state_path


class LossJudge(Judge, Protocol):
    """A judge that has the negative log-likelihoods of all predictions."""

    losses: NDArray[Any]


class Losses:
    """The judge of a plain measurement.

    Attributes:
        losses: float64 (n_predictions,), negative log-likelihoods of the tokens.
    """

    def __init__(self, n_predictions: int) -> None:
        self.losses = np.zeros(n_predictions)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """What it found, by name; a value for each prediction."""
        return {"losses": self.losses}

    def take(self, first: int, logits: NDArray[np.float32], wanted: NDArray[np.int32]) -> None:
        """See `Judge`."""
        self.losses[first : first + len(wanted)] = negative_log_likelihoods(logits, wanted)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a measurement found.

    Attributes:
        perplexity: with its standard error.
        n_tokens: predictions that count.
        n_ctx, n_chunks: of the text.
        running: perplexity after each chunk.
        n_resumed: chunks that an earlier process had measured.
        seconds: of this process, without loading the model.
        tokens_per_s: tokens read per second in it.
        figures: of the comparison with a base model, if there was one.
    """

    perplexity: Mean
    n_tokens: int
    n_ctx: int
    n_chunks: int
    running: list[float]
    n_resumed: int
    seconds: float
    tokens_per_s: float
    figures: Figures | None

    def to_json(self) -> dict[str, Any]:
        """As `llorch perplexity --json` prints it."""
        return {
            "perplexity": self.perplexity.value,
            "stderr": self.perplexity.stderr,
            "n_tokens": self.n_tokens,
            "n_ctx": self.n_ctx,
            "n_chunks": self.n_chunks,
            "n_resumed_chunks": self.n_resumed,
            "seconds": self.seconds,
            "tokens_per_s": self.tokens_per_s,
            "running": self.running,
            "divergence": None if self.figures is None else self.figures.to_json(),
        }


def measure_text(
    model: OpenModel,
    chunks: Chunks,
    *,
    base_path: Path | None = None,
    kv_type: str = "f16",
    is_resumed: bool = False,
    progress: Progress = ignore_progress,
) -> Measured:
    """Perplexity of a text.

    Args:
        model: open.
        chunks: the text.
        base_path: where the predictions are to be written, for comparisons with other models.
        kv_type: number type of the KV cache.
        is_resumed: go on where an earlier process had to stop; not with `base_path`.
        progress: told the running figure.

    Raises:
        InputError: the file cannot be written, or the memory does not suffice.
        NumericalError: the model computes NaN.
    """
    if base_path is not None:
        with writing_base(base_path, chunks, model.config.n_vocab) as writer:
            state = KeptState(None, {}, chunks.n_counted)
            return _measure(model, chunks, writer, kv_type, state, progress)
    judge = Losses(chunks.n_chunks * chunks.n_counted)
    with _state(model, chunks, judge, is_resumed, kv_type) as state:
        return _measure(model, chunks, judge, kv_type, state, progress)


def compare_with_base(
    model: OpenModel,
    base: BaseFile,
    chunks: Chunks,
    *,
    kv_type: str = "f16",
    is_resumed: bool = False,
    progress: Progress = ignore_progress,
) -> Measured:
    """Perplexity of the text in a base file, and how far the model's predictions are from those in it.

    Args:
        model: open.
        base: predictions of another model.
        chunks: the first of its chunks, or all.
        kv_type, is_resumed, progress: as in `measure_text`.

    Raises:
        InputError, NumericalError: as `measure_text`; or the base file is damaged.
    """
    judge = Divergence(base, chunks.n_chunks * chunks.n_counted)
    with _state(model, chunks, judge, is_resumed, kv_type, base.identity) as state:
        return _measure(model, chunks, judge, kv_type, state, progress)


def _state(
    model: OpenModel, chunks: Chunks, judge: Losses | Divergence, is_resumed: bool, *settings: object
) -> AbstractContextManager[KeptState]:
    state = KeptState(state_path(model, chunks, *settings), judge.arrays(), chunks.n_counted)
    if is_resumed:
        state.load()
    return kept_state(state)


def _measure(
    model: OpenModel, chunks: Chunks, judge: LossJudge, kv_type: str, state: KeptState, progress: Progress
) -> Measured:
    """Judge all chunks that are not known, and sum up."""
    begun_s, n_known, n = time.perf_counter(), state.n_known, chunks.n_chunks
    progress("reading the text", n_known, n)
    for n_done in evaluate(model.llama, chunks, judge, kv_type=kv_type, begin=n_known):
        state.saw(n_done)
        if n_done > n_known:
            left_s = (time.perf_counter() - begun_s) / (n_done - n_known) * (n - n_done)
            progress(_so_far(judge, n_done * chunks.n_counted, left_s), n_done, n)
    seconds = time.perf_counter() - begun_s
    figures = judge.figures() if isinstance(judge, Divergence) else None
    return Measured(
        perplexity=figures.perplexity if figures else perplexity_of(mean_of(judge.losses)),
        n_tokens=n * chunks.n_counted,
        n_ctx=chunks.n_ctx,
        n_chunks=n,
        running=running_perplexities(judge.losses, chunks.n_counted),
        n_resumed=n_known,
        seconds=seconds,
        tokens_per_s=(n - n_known) * chunks.n_ctx / seconds,
        figures=figures,
    )


def _so_far(judge: LossJudge, n: int, left_s: float) -> str:
    """The figures of the first `n` predictions, and how long the rest will take."""
    words = f"perplexity {perplexity_of(mean_of(judge.losses[:n])).value:.4f}"
    if isinstance(judge, Divergence):
        words += f", divergence {judge.divergences[:n].mean():.5f}"
    minutes, seconds = divmod(round(left_s), 60)
    return f"{words}, {minutes}:{seconds:02} left"
