"""What an engine has done since its start, as plain numbers that any thread may read: for metrics.

Each tally has one writer: the compute thread, or whoever holds the ledger's lock.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llorch.engine.events import EndEvent, ErrorEvent, Event, LastEvent, TokenEvent
from llorch.engine.scheduler import Chunk
from llorch.observe.distribution import Distribution

SPAN_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1800)
"""For parts of a generation. A long prompt takes minutes on a CPU."""
TOKEN_BOUNDS_S = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5),
    *(1, 2.5, 5, 10),
)
"""For steps, and from token to token."""
ROW_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
LENGTH_BOUNDS = (1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


@dataclass(slots=True)
class Timeline:
    """When things happened to a generation (clock of `time.monotonic`); NaN: not yet.

    Attributes:
        accepted_s: it got its place in line.
        first_token_s: the step that chose its first token was over.
        last_token_s: the same of its latest token.
        ended_s: its last event came.
        n_tokens: tokens so far.
    """

    accepted_s: float
    first_token_s: float = math.nan
    last_token_s: float = math.nan
    ended_s: float = math.nan
    n_tokens: int = 0


class StepTally:
    """What the steps of an engine have computed; the thread that computes adds to it.

    Attributes:
        step_s: durations of steps.
        step_rows: tokens computed in a step.
        n_prompt_tokens: tokens of prompts that have been read.
        n_cached_tokens: those of them that were found in the KV cache.
    """

    def __init__(self) -> None:
        self.step_s = Distribution(TOKEN_BOUNDS_S)
        self.step_rows = Distribution(ROW_BOUNDS)
        self.n_prompt_tokens = 0
        self.n_cached_tokens = 0

    def add_step(self, n_rows: int, duration_s: float) -> None:
        """Count a step."""
        self.step_s.add(duration_s)
        self.step_rows.add(n_rows)

    def add_prompts(self, chunks: Sequence[Chunk]) -> None:
        """Count the prompts that end with one of `chunks`, which have been computed and not yet been sampled from."""
        for chunk in chunks:
            sequence = chunk.sequence
            if not sequence.n_generated and chunk.n_tokens == sequence.n_pending:
                self.n_prompt_tokens += sequence.n_prompt
                self.n_cached_tokens += sequence.n_cached


class GenerationTally:
    """How generations went; whoever holds the lock of the ledger adds to it.

    Attributes:
        first_token_s: from acceptance to the first token.
        token_s: from token to token.
        queue_s: from acceptance to a slot.
        prefill_s: from the slot to the first token, or to the end where there was none.
        decode_s: from the first token to the last.
        whole_s: from acceptance to the end.
        prompt_lengths: tokens of the prompts of generations that did not fail.
        answer_lengths: tokens of their answers.
        ends: ended generations by finish reason; ``"error"`` is one.
        errors: failed ones by code.
        n_tokens: generated tokens.
        n_drafted: tokens that were computed ahead.
        n_accepted: those of them that were kept.
        n_queue_full: generations refused because too many waited.
    """

    def __init__(self) -> None:
        self.first_token_s = Distribution(SPAN_BOUNDS_S)
        self.token_s = Distribution(TOKEN_BOUNDS_S)
        self.queue_s = Distribution(SPAN_BOUNDS_S)
        self.prefill_s = Distribution(SPAN_BOUNDS_S)
        self.decode_s = Distribution(SPAN_BOUNDS_S)
        self.whole_s = Distribution(SPAN_BOUNDS_S)
        self.prompt_lengths = Distribution(LENGTH_BOUNDS)
        self.answer_lengths = Distribution(LENGTH_BOUNDS)
        self.ends: Counter[str] = Counter({"stop": 0, "length": 0, "abort": 0, "error": 0})
        self.errors: Counter[str] = Counter()
        self.n_tokens = 0
        self.n_drafted = 0
        self.n_accepted = 0
        self.n_queue_full = 0

    def add(self, timeline: Timeline, event: Event, now_s: float) -> None:
        """Count what happened to the generation of `timeline`, and note when."""
        if type(event) is TokenEvent:
            if event.id is not None:
                self._add_token(timeline, now_s)
        elif isinstance(event, LastEvent):
            timeline.ended_s = now_s
            self.whole_s.add(now_s - timeline.accepted_s)
            if isinstance(event, ErrorEvent):
                self.ends["error"] += 1
                self.errors[event.code] += 1
            else:
                self._add_end(timeline, event)

    def _add_token(self, timeline: Timeline, now_s: float) -> None:
        self.n_tokens += 1
        if timeline.n_tokens:
            self.token_s.add(now_s - timeline.last_token_s)
        else:
            timeline.first_token_s = now_s
            self.first_token_s.add(now_s - timeline.accepted_s)
        timeline.n_tokens += 1
        timeline.last_token_s = now_s

    def _add_end(self, timeline: Timeline, end: EndEvent) -> None:
        self.ends[end.finish_reason] += 1
        self.prompt_lengths.add(end.usage.prompt_tokens)
        self.answer_lengths.add(end.usage.completion_tokens)
        self.n_drafted += end.timings.drafted_tokens
        self.n_accepted += end.timings.accepted_tokens
        queued_s, prefill_s = queue_and_prefill_s(timeline, end)
        self.queue_s.add(queued_s)
        self.prefill_s.add(prefill_s)
        if timeline.n_tokens:
            self.decode_s.add(timeline.last_token_s - timeline.first_token_s)


def queue_and_prefill_s(timeline: Timeline, end: EndEvent) -> tuple[float, float]:
    """How long a generation waited for a slot, and how long its prompt was read; both begin with the acceptance.

    The end's own `queue_s` begins when the engine gets the request, which may be a step later.
    """
    begun_s = timeline.first_token_s if timeline.n_tokens else timeline.ended_s
    prefill_s = min(end.timings.prompt_s, begun_s - timeline.accepted_s)
    return begun_s - timeline.accepted_s - prefill_s, prefill_s
