"""The state of a generation in the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from llorch.engine.events import EndEvent, FinishReason, Timings, Usage
from llorch.engine.request import Request
from llorch.engine.sampling import Sampler
from llorch.text.detokenizer import TextStream


@dataclass(slots=True, eq=False)
class Sequence:
    """A generation in the engine: its tokens, its place in the KV cache, its progress.

    Attributes:
        request: what was asked for.
        seed: decides every draw.
        sampler: chooses its tokens.
        text_stream: makes text of them.
        n_max: most tokens it may hold, the prompt's included.
        submitted_s: when the engine got it (clock of `time.perf_counter`).
        token_ids: prompt and generated tokens.
        n_computed: how many of them are in the KV cache.
        slot: its row of the block tables, while it runs.
        kv_blocks: its KV blocks, enough for all tokens it may ever hold.
        admitted_s: when it got slot and blocks.
        first_token_s: when its first token was chosen.
        last_token_s: when its latest token was chosen.
    """

    request: Request
    seed: int
    sampler: Sampler
    text_stream: TextStream
    n_max: int
    submitted_s: float
    token_ids: list[int] = field(init=False)
    n_computed: int = 0
    slot: int = -1
    kv_blocks: list[int] = field(default_factory=list)
    admitted_s: float = math.nan
    first_token_s: float = math.nan
    last_token_s: float = math.nan

    def __post_init__(self) -> None:
        self.token_ids = list(self.request.token_ids)

    @property
    def n_pending(self) -> int:
        """Tokens still to compute."""
        return len(self.token_ids) - self.n_computed

    @property
    def n_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.token_ids)

    @property
    def n_generated(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.n_prompt

    @property
    def n_positions(self) -> int:
        """Most KV positions it may fill; the last token is sampled but never computed."""
        return self.n_max - 1

    def append(self, token_id: int, now_s: float) -> None:
        """Append a sampled token and update the timings."""
        if not self.n_generated:
            self.first_token_s = now_s
        self.last_token_s = now_s
        self.token_ids.append(token_id)

    def end_event(self, finish_reason: FinishReason, now_s: float) -> EndEvent:
        """The last event of the finished generation."""
        return EndEvent(
            job_id=self.request.job_id,
            finish_reason=finish_reason,
            text=self.text_stream.text,
            token_ids=tuple(self.token_ids[self.n_prompt :]),
            usage=Usage(self.n_prompt, self.n_generated, cached_tokens=0),
            seed=self.seed,
            matched_stop=self.text_stream.matched_stop if finish_reason == "stop" else None,
            timings=self._timings(now_s),
        )

    def _timings(self, now_s: float) -> Timings:
        if math.isnan(self.admitted_s):
            return Timings(now_s - self.submitted_s, 0.0, 0.0, 0.0, 0.0)
        has_tokens = self.n_generated > 0
        prompt_s = (self.first_token_s if has_tokens else now_s) - self.admitted_s
        decode_s = self.last_token_s - self.first_token_s if has_tokens else 0.0
        n_prompt_computed = min(self.n_computed, self.n_prompt)
        return Timings(
            queue_s=self.admitted_s - self.submitted_s,
            prompt_s=prompt_s,
            prompt_tokens_per_s=n_prompt_computed / prompt_s if prompt_s > 0 else 0.0,
            decode_s=decode_s,
            decode_tokens_per_s=(self.n_generated - 1) / decode_s if decode_s > 0 else 0.0,
        )
