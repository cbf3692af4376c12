"""A generation: what was asked for (`Request`, immutable) and how far it is (`Sequence`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from llorch.engine.params import SamplingParams
from llorch.engine.sampling import Sampler
from llorch.engine.stream import EndEvent, FinishReason, TextStream, Timings, Usage
from llorch.errors import ContextLengthError, FieldError, RequestError

MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 100


@dataclass(frozen=True, slots=True)
class Request:
    """What shall be generated.

    Attributes:
        job_id: name of the generation, unique among those that are not finished.
        token_ids: the prompt.
        params: how tokens are chosen.
        max_tokens: most tokens to generate; the context may end the text earlier.
        stop: strings that end the text and are not part of it.
        ignore_eos: never choose an end-of-generation token.
    """

    job_id: str
    token_ids: tuple[int, ...]
    params: SamplingParams
    max_tokens: int
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def check(self, n_vocab: int, n_ctx: int) -> None:
        """Refuse what cannot be generated.

        Raises:
            RequestError: with every fault of the request.
            ContextLengthError: the prompt fills the context.
        """
        rules = [
            ("job_id", "1..128 characters", 1 <= len(self.job_id) <= 128),
            ("prompt", "at least one token", len(self.token_ids) >= 1),
            (
                "token_ids",
                f"0 <= id < {n_vocab}",
                all(0 <= token_id < n_vocab for token_id in self.token_ids),
            ),
            ("max_tokens", "max_tokens >= 1", self.max_tokens >= 1),
            (
                "stop",
                f"at most {MAX_STOP_STRINGS} strings, each 1..{MAX_STOP_CHARS} characters",
                len(self.stop) <= MAX_STOP_STRINGS
                and all(1 <= len(text) <= MAX_STOP_CHARS for text in self.stop),
            ),
            (
                "logit_bias",
                f"0 <= id < {n_vocab}",
                all(token_id < n_vocab for token_id in self.params.logit_bias),
            ),
        ]
        faults = [
            FieldError(name, constraint, f"{name} must satisfy: {constraint}")
            for name, constraint, is_good in rules
            if not is_good
        ]
        if faults:
            raise RequestError(faults)
        if len(self.token_ids) >= n_ctx:
            raise ContextLengthError(len(self.token_ids), n_ctx)


@dataclass(slots=True, eq=False)
class Sequence:
    """A generation under way.

    Attributes:
        request: what was asked for.
        seed: what its draws follow from.
        sampler: chooses its tokens.
        stream: makes text of them.
        n_max: tokens it may hold at most, the prompt's included.
        submitted_s: when it came (clock of `time.perf_counter`).
        token_ids: prompt and generated tokens.
        n_computed: how many of them are in the KV cache.
        slot: its row of the block tables, while it runs.
        kv_blocks: its KV blocks, reserved for all it may ever hold.
        admitted_s: when it got them.
        first_token_s: when its first token was chosen.
        last_token_s: when its latest token was chosen.
    """

    request: Request
    seed: int
    sampler: Sampler
    stream: TextStream
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
        """KV positions it may come to fill; the last token is chosen but never computed."""
        return self.n_max - 1

    def append(self, token_id: int, now_s: float) -> None:
        """Take over a token that was chosen."""
        if not self.n_generated:
            self.first_token_s = now_s
        self.last_token_s = now_s
        self.token_ids.append(token_id)

    def end_event(self, finish_reason: FinishReason, now_s: float) -> EndEvent:
        """The account of the finished generation."""
        return EndEvent(
            job_id=self.request.job_id,
            finish_reason=finish_reason,
            text=self.stream.text,
            token_ids=tuple(self.token_ids[self.n_prompt :]),
            usage=Usage(self.n_prompt, self.n_generated, cached_tokens=0),
            seed=self.seed,
            matched_stop=self.stream.matched_stop,
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
