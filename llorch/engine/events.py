"""What leaves the engine: immutable events, which any thread may read.

Each generation has one `StartedEvent`, then its `TokenEvent`s, then one last event: `EndEvent` or `ErrorEvent`.
Requests that ask for them get `ProgressEvent`s and one `PromptEvent` between the first two, and an `EndTokenEvent`
before the last.
JSON and frames are made of them in `llorch.server`, not here. `docs/generations.md` says how texts, ids and counts
agree at every kind of end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

FinishReason: TypeAlias = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a generation; `cached_tokens` of the prompt were in the KV cache already.

    The end-of-generation token is no completion token, those that spell a stop string are.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations and speeds of a generation; 0.0 for a part that did not happen.

    Attributes:
        queue_s: from submission to admission (a slot and KV blocks).
        prompt_s: from admission to the first token.
        prompt_tokens_per_s: prompt tokens computed, over `prompt_s`.
        decode_s: from the first token to the last.
        decode_tokens_per_s: tokens after the first, over `decode_s`.
        drafted_tokens: tokens that were proposed and computed ahead.
        accepted_tokens: those of them that the model would have chosen, and so were kept.
    """

    queue_s: float
    prompt_s: float
    prompt_tokens_per_s: float
    decode_s: float
    decode_tokens_per_s: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """How probable a token was, from the model's logits as they are: no bias, penalty or temperature.

    Where the request asks for it, among the candidates that sampling left instead.

    Attributes:
        logprob: natural logarithm of its probability.
        top: ids and logarithms of the most probable tokens, the most probable first.
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class StartedEvent:
    """The request was accepted; it may still have to wait for a slot."""

    type: ClassVar[str] = "started"
    job_id: str
    model: str
    prompt_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """How much of the prompt has been read; after each step that reads some, if the request asks for it.

    Attributes:
        n_prompt: tokens of the prompt.
        n_cached: those of them that were in the KV cache already.
        n_computed: those that are there now.
        elapsed_s: since the generation was admitted.
    """

    type: ClassVar[str] = "progress"
    n_prompt: int
    n_cached: int
    n_computed: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class PromptEvent:
    """The prompt has been read: how probable its tokens were, if the request asks for it. Before any `TokenEvent`.

    Attributes:
        logprobs: of each token of the prompt; None of the first, which nothing predicts.
    """

    type: ClassVar[str] = "prompt"
    logprobs: tuple[TokenLogprobs | None, ...]


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token.

    Attributes:
        i: index among the generated tokens.
        id: token id; None in at most one event, just before the end: text that was held back when the answer
            ended has no token of its own.
        text: what can be shown now: whole characters, and nothing that may yet become a stop string.
            The texts of all token events, joined, are the text of the `end` event.
        logprobs: how probable it was, if the request asks for it.
    """

    type: ClassVar[str] = "token"
    i: int
    id: int | None
    text: str
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True, slots=True)
class EndTokenEvent:
    """The token that ended the answer and is no part of it, if the request asks how probable tokens were.

    It is no `TokenEvent`: it has no text, and is not among the generated tokens.
    """

    type: ClassVar[str] = "end_token"
    id: int
    logprobs: TokenLogprobs


@dataclass(frozen=True, slots=True)
class LogitsRecord:
    """From which logits tokens were chosen.

    Attributes:
        token_ids: the tokens, the end-of-generation one that ended the text among them.
        digests: for each of them SHA-256 over all logits so far: rows of float32, little-endian, as the model gave
            them, one after the other.
    """

    token_ids: tuple[int, ...]
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class EndEvent:
    """The generation ended as it should, or was aborted.

    Attributes:
        job_id: name of the generation.
        finish_reason: ``"stop"`` (an end-of-generation token, or a stop string), ``"length"`` (`max_tokens`
            or the context), ``"abort"``.
        text: the whole generated text, up to the stop string.
        token_ids: the generated tokens without the end-of-generation one; those that spell a stop string are
            among them.
        usage: token counts.
        seed: the seed used.
        matched_stop: the stop string that ended the text; only with ``"stop"``.
        timings: durations and speeds.
        timed_out: whether the request's deadline ended it; the reason is ``"length"`` then.
        logits: from which ones its tokens were chosen, if the request asks for it.
    """

    type: ClassVar[str] = "end"
    job_id: str
    finish_reason: FinishReason
    text: str
    token_ids: tuple[int, ...]
    usage: Usage
    seed: int
    matched_stop: str | None
    timings: Timings
    timed_out: bool = False
    logits: LogitsRecord | None = None


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """The generation failed; `retriable` says whether the same request may succeed later."""

    type: ClassVar[str] = "error"
    code: str
    message: str
    retriable: bool


LastEvent: TypeAlias = EndEvent | ErrorEvent
Event: TypeAlias = StartedEvent | ProgressEvent | PromptEvent | TokenEvent | EndTokenEvent | LastEvent


@dataclass(frozen=True, slots=True)
class StepEvent:
    """An event and the generation it belongs to."""

    job_id: str
    event: Event
