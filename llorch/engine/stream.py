"""A sequence's tokens as its client sees them: whole characters, stop strings cut off, events.

Everything here runs on the compute thread right after sampling, because a stop string must end its sequence
before the next step; an event is finished, immutable data when it leaves for the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, TypeAlias

from llorch.text.detokenizer import Detokenizer

FinishReason: TypeAlias = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens a request took; `cached_tokens` of the prompt were there already."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went; 0.0 for what did not happen.

    Attributes:
        queue_s: waiting for a slot.
        prompt_s: from there to the first token.
        prompt_tokens_per_s: prompt tokens computed, over `prompt_s`.
        decode_s: from the first token to the last.
        decode_tokens_per_s: tokens after the first, over `decode_s`.
    """

    queue_s: float
    prompt_s: float
    prompt_tokens_per_s: float
    decode_s: float
    decode_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class StartedEvent:
    """The request was taken; it may still have to wait for a slot."""

    type: ClassVar[str] = "started"
    job_id: str
    model: str
    prompt_tokens: int
    seed: int

    def to_json(self) -> dict[str, object]:
        """The event as its client gets it."""
        return {"type": self.type, **asdict(self)}


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token.

    Attributes:
        i: index among the generated tokens.
        id: token id; None in at most one event, just before the end: text that was held back when the answer
            ended has no token of its own.
        text: what can be shown now: whole characters, and nothing that may yet become a stop string.
            The texts of all token events, joined, are the text of the `end` event.
    """

    type: ClassVar[str] = "token"
    i: int
    id: int | None
    text: str

    def to_json(self) -> dict[str, object]:
        """The event as its client gets it."""
        return {"type": self.type, "i": self.i, "id": self.id, "text": self.text}


@dataclass(frozen=True, slots=True)
class EndEvent:
    """The request is done.

    Attributes:
        job_id: which request.
        finish_reason: ``"stop"`` (an end-of-generation token, or a stop string), ``"length"`` (`max_tokens`
            or the context), ``"abort"``.
        text: the whole generated text, up to the stop string.
        token_ids: the generated tokens without the end-of-generation one; those that spell a stop string are
            among them.
        usage: token counts.
        seed: the seed used.
        matched_stop: the stop string that ended the text.
        timings: where the time went.
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

    def to_json(self) -> dict[str, object]:
        """The event as its client gets it."""
        return {"type": self.type, **asdict(self), "token_ids": list(self.token_ids)}


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """The request failed; `retriable` says whether trying again can help."""

    type: ClassVar[str] = "error"
    code: str
    message: str
    retriable: bool

    def to_json(self) -> dict[str, object]:
        """The event as its client gets it."""
        return {"type": self.type, **asdict(self)}


Event: TypeAlias = StartedEvent | TokenEvent | EndEvent | ErrorEvent


class StopStrings:
    """Finds stop strings in text that arrives in pieces.

    The match that is complete first wins, and among those that end together the longest; so the outcome does
    not depend on how the text was cut into pieces.

    Attributes:
        matched: the stop string that was found.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.matched: str | None = None
        self._stop = tuple(stop)
        self._longest = max(map(len, stop), default=0)
        self._held = ""

    def push(self, text: str) -> str:
        """Add `text`; return what cannot be part of a stop string any more, or all before the one found."""
        if not self._stop:
            return text
        text = self._held + text
        ends = [
            (begin + len(stop), -len(stop), stop) for stop in self._stop if (begin := text.find(stop)) >= 0
        ]
        if ends:
            end, negative_length, self.matched = min(ends)
            self._held = ""
            return text[: end + negative_length]
        n_held = next(n for n in range(min(len(text), self._longest), -1, -1) if self._may_begin(text, n))
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]

    def finish(self) -> str:
        """What was held back: no more text will come."""
        held, self._held = self._held, ""
        return held

    def _may_begin(self, text: str, n: int) -> bool:
        """Whether the last `n` characters can be the beginning of a stop string."""
        return n == 0 or any(stop.startswith(text[-n:]) for stop in self._stop)


class TextStream:
    """Token ids in, showable text out, for one sequence.

    Attributes:
        text: everything that was given out.
    """

    def __init__(self, detokenizer: Detokenizer, stop: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stop = StopStrings(stop)
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """Everything given out so far."""
        return "".join(self._pieces)

    @property
    def matched_stop(self) -> str | None:
        """The stop string that ended the text; nothing must be pushed after it."""
        return self._stop.matched

    def push(self, token_id: int) -> str:
        """Text that can be shown now that `token_id` has arrived."""
        return self._keep(self._stop.push(self._detokenizer.push(token_id)))

    def finish(self) -> str:
        """The rest of the text, unless a stop string ended it."""
        if self._stop.matched is not None:
            return ""
        last = self._stop.push(self._detokenizer.finish())
        return self._keep(last if self._stop.matched is not None else last + self._stop.finish())

    def _keep(self, text: str) -> str:
        if text:
            self._pieces.append(text)
        return text
