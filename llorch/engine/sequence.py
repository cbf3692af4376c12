"""The state of a generation in the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from llorch.engine.events import EndEvent, FinishReason, Timings, TokenLogprobs, Usage
from llorch.engine.logits_hash import LogitsHash
from llorch.engine.ngram_drafter import NgramDrafter
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
        drafter: guesses its next tokens, if they may be computed ahead.
        logits_hash: of the logits that they are chosen from, if the request asks for it.
        token_ids: prompt and generated tokens.
        n_computed: how many of them are in the KV cache.
        n_seen: how many of them were there when it last had to give way; they are computed again.
        n_cached: tokens of the prompt that were found in the KV cache, and never computed for it.
        turn: number of its first admission, in the order of all; -1 before that. The lower, the older.
        slot: its row of the block tables, while it runs.
        kv_blocks: its KV blocks.
        block_keys: keys of its first full blocks, as far as they have been asked for.
        n_named: how many of its blocks can be found by others.
        admitted_s: when it first got a slot.
        first_token_s: when its first token was chosen.
        last_token_s: when its latest token was chosen.
        prompt_logprobs: of the first tokens of the prompt, as far as they are known.
        is_prompt_reported: whether they have been reported.
        n_drafted: tokens that were computed ahead.
        n_accepted: those of them that were chosen.
    """

    request: Request
    seed: int
    sampler: Sampler
    text_stream: TextStream
    n_max: int
    submitted_s: float
    drafter: NgramDrafter | None = None
    logits_hash: LogitsHash | None = None
    token_ids: list[int] = field(init=False)
    n_computed: int = 0
    n_seen: int = 0
    n_cached: int = 0
    turn: int = -1
    slot: int = -1
    kv_blocks: list[int] = field(default_factory=list)
    block_keys: list[bytes] = field(default_factory=list)
    n_named: int = 0
    admitted_s: float = math.nan
    first_token_s: float = math.nan
    last_token_s: float = math.nan
    prompt_logprobs: list[TokenLogprobs | None] = field(default_factory=lambda: [None])
    is_prompt_reported: bool = False
    n_drafted: int = 0
    n_accepted: int = 0

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
        """Most KV positions it may fill; a last token that is sampled is never computed."""
        return max(self.n_max - 1, self.n_prompt)

    @property
    def lacks_prompt_logprobs(self) -> bool:
        """Whether tokens of the prompt have still to be judged."""
        return self.request.n_prompt_logprobs is not None and len(self.prompt_logprobs) < self.n_prompt

    def fit(self, n_rows: int, n_outputs: int) -> tuple[int, int]:
        """How many of its pending tokens fit into a step, and rows of logits that they need.

        Args:
            n_rows: rows that the step has left.
            n_outputs: rows of logits that it has left.
        """
        n_tokens = min(self.n_pending, n_rows)
        if self.lacks_prompt_logprobs:
            # The logits of those that are known are not needed again.
            n_known = max(len(self.prompt_logprobs) - 1 - self.n_computed, 0)
            n_tokens = min(n_tokens, n_known + n_outputs)
            return n_tokens, max(n_tokens - n_known, 0)
        if n_tokens == self.n_pending and n_outputs:
            return n_tokens, 1
        return min(n_tokens, self.n_pending - 1), 0

    @property
    def n_prompt_done(self) -> int:
        """Tokens of the prompt that have been in the KV cache, computed or found."""
        return min(max(self.n_computed, self.n_seen), self.n_prompt)

    def skip(self, n_tokens: int) -> None:
        """Count the next `n_tokens` tokens as computed: they were found."""
        begin, self.n_computed = self.n_computed, self.n_computed + n_tokens
        self.n_cached += max(min(self.n_computed, self.n_prompt) - max(begin, self.n_seen), 0)

    def give_way(self) -> None:
        """Forget what was computed; nothing that a caller could see changes."""
        self.n_seen, self.n_computed = max(self.n_seen, self.n_computed), 0

    def append(self, token_id: int, now_s: float) -> None:
        """Append a sampled token and update the timings."""
        if len(self.token_ids) == len(self.request.token_ids):
            self.first_token_s = now_s
        self.last_token_s = now_s
        self.token_ids.append(token_id)
        if self.drafter is not None:
            self.drafter.append(token_id)

    def end_event(self, finish_reason: FinishReason, now_s: float) -> EndEvent:
        """The last event of the finished generation."""
        return EndEvent(
            job_id=self.request.job_id,
            finish_reason=finish_reason,
            text=self.text_stream.text,
            token_ids=tuple(self.token_ids[self.n_prompt :]),
            usage=Usage(self.n_prompt, self.n_generated, self.n_cached),
            seed=self.seed,
            matched_stop=self.text_stream.matched_stop if finish_reason == "stop" else None,
            timings=self._timings(now_s),
            logits=None if self.logits_hash is None else self.logits_hash.record(),
        )

    def _timings(self, now_s: float) -> Timings:
        if math.isnan(self.admitted_s):
            return Timings(now_s - self.submitted_s, 0.0, 0.0, 0.0, 0.0)
        has_tokens = self.n_generated > 0
        prompt_s = (self.first_token_s if has_tokens else now_s) - self.admitted_s
        decode_s = self.last_token_s - self.first_token_s if has_tokens else 0.0
        n_prompt_computed = self.n_prompt_done - self.n_cached
        return Timings(
            queue_s=self.admitted_s - self.submitted_s,
            prompt_s=prompt_s,
            prompt_tokens_per_s=n_prompt_computed / prompt_s if prompt_s > 0 else 0.0,
            decode_s=decode_s,
            decode_tokens_per_s=(self.n_generated - 1) / decode_s if decode_s > 0 else 0.0,
            drafted_tokens=self.n_drafted,
            accepted_tokens=self.n_accepted,
        )
