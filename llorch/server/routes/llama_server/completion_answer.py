"""Answers of `POST /completion`: whole, or an object for each event of a stream.

Source: llama.cpp 0.5.0-dev, `tools/server/server-task.cpp`, `to_json_non_oaicompat`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llorch.engine.events import (
    EndEvent,
    ErrorEvent,
    Event,
    ProgressEvent,
    Timings,
    TokenEvent,
    TokenLogprobs,
    Usage,
)
from llorch.engine.request import Request
from llorch.server.choices import Outcome
from llorch.server.receipts import NO_RECEIPTS, AnswerReceipts
from llorch.server.routes.llama_server.completion_fields import CompletionRequest
from llorch.server.routes.llama_server.error_shape import event_error
from llorch.server.routes.llama_server.generation_settings import generation_settings
from llorch.server.streaming import sse_frame
from llorch.server.timings import progress_json, timings_json
from llorch.text.tokenizer import Tokenizer

LEAST_LOGPROB = -3.4028234663852886e38
"""Of an impossible token, as in llama-server: JSON has no infinity."""
NO_SLOT = -1
"""A generation has no number among those that run; llama-server says this before it has one."""


@dataclass(slots=True)
class CompletionAnswer:
    """Writes the answer of one generation.

    Attributes:
        index: among the generations of the request.
        asked: what the client wants.
        request: what is computed.
        prompt: its text, control tokens included.
        model: the served model's name.
        tokenizer: the model's.
        receipts: those of the request.
    """

    index: int
    asked: CompletionRequest
    request: Request
    prompt: str
    model: str
    tokenizer: Tokenizer
    receipts: AnswerReceipts = NO_RECEIPTS
    _n_tokens: int = 0
    _progress: ProgressEvent | None = None
    _first_s: float = field(default=0.0)

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """The answer in one piece."""
        end = outcome.end
        token_ids = list(end.token_ids) if self.asked.get("return_tokens") else []
        more: dict[str, Any] = {}
        if outcome.tokens:
            tokens = [event for event in outcome.tokens if isinstance(event, TokenEvent)]
            more["completion_probabilities"] = [self._probability(event) for event in tokens]
        return self._last(end, end.text, token_ids, more)

    def frame(self, event: Event) -> bytes:
        """What a stream sends when `event` has happened: an object, or nothing."""
        if isinstance(event, TokenEvent):
            return sse_frame(self._token(event))
        if isinstance(event, ProgressEvent):
            self._progress = event
            if not self.asked.get("return_progress"):
                return b""
            return sse_frame(self._partial("", [], {"prompt_progress": progress_json(event)}))
        if isinstance(event, EndEvent):
            return sse_frame(self._last(event, "", [], {}))
        if isinstance(event, ErrorEvent):
            return sse_frame({"error": event_error(event)})
        return b""

    def _token(self, event: TokenEvent) -> dict[str, Any]:
        if not self._n_tokens:
            self._first_s = time.monotonic()
        self._n_tokens += event.id is not None
        more = {} if event.logprobs is None else {"completion_probabilities": [self._probability(event)]}
        return self._partial(event.text, [] if event.id is None else [event.id], more)

    def _partial(self, text: str, token_ids: list[int], more: Mapping[str, Any]) -> dict[str, Any]:
        answer = {
            "index": self.index,
            "content": text,
            "tokens": token_ids,
            "stop": False,
            "id_slot": NO_SLOT,
            "tokens_predicted": self._n_tokens,
            "tokens_evaluated": len(self.request.token_ids),
            **more,
        }
        if self.asked.get("timings_per_token"):
            answer["timings"] = self._timings_so_far()
        return answer

    def _timings_so_far(self) -> dict[str, float]:
        progress, n_tokens = self._progress, self._n_tokens
        n_cached = 0 if progress is None else progress.n_cached
        n_read = 0 if progress is None else progress.n_computed
        prompt_s = 0.0 if progress is None else progress.elapsed_s
        decode_s = time.monotonic() - self._first_s if n_tokens > 1 else 0.0
        timings = Timings(
            queue_s=0.0,
            prompt_s=prompt_s,
            prompt_tokens_per_s=(n_read - n_cached) / prompt_s if prompt_s else 0.0,
            decode_s=decode_s,
            decode_tokens_per_s=(n_tokens - 1) / decode_s if decode_s else 0.0,
        )
        return timings_json(Usage(n_read, n_tokens, n_cached), timings)

    def _last(
        self, end: EndEvent, text: str, token_ids: list[int], more: Mapping[str, Any]
    ) -> dict[str, Any]:
        usage = end.usage
        n_predict = self.asked.given.get("n_predict", self.request.max_tokens)
        answer = {
            "index": self.index,
            "content": text,
            "tokens": token_ids,
            "id_slot": NO_SLOT,
            "stop": True,
            "model": self.model,
            "tokens_predicted": usage.completion_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "generation_settings": generation_settings(
                self.request.params,
                n_predict=n_predict,
                seed=end.seed,
                stop=self.request.stop,
                ignore_eos=self.request.ignore_eos,
                n_probs=self.asked.get("n_probs"),
                post_sampling_probs=self.asked.get("post_sampling_probs"),
                stream=self.asked.get("stream"),
                timings_per_token=self.asked.get("timings_per_token"),
                grammar=self.asked.get("grammar"),
            ),
            "prompt": self.prompt,
            "has_new_line": "\n" in end.text,
            "truncated": False,
            "stop_type": _stop_type(end),
            "stopping_word": end.matched_stop or "",
            "tokens_cached": usage.prompt_tokens + max(usage.completion_tokens - 1, 0),
            "timings": timings_json(usage, end.timings),
            **self.receipts.member(self.index, end),
            **more,
        }
        names = self.asked.get("response_fields")
        return answer if not names else _picked(answer, names)

    def _probability(self, event: TokenEvent) -> dict[str, Any]:
        """A token, how probable it was, and what else was."""
        logprobs = event.logprobs
        assert isinstance(logprobs, TokenLogprobs)
        assert event.id is not None  # only tokens have probabilities
        top = [self._entry(token_id, logprob) for token_id, logprob in logprobs.top]
        name = "top_probs" if self.asked.get("post_sampling_probs") else "top_logprobs"
        return {**self._entry(event.id, logprobs.logprob), name: top}

    def _entry(self, token_id: int, logprob: float) -> dict[str, Any]:
        piece = self.tokenizer.token_bytes(token_id, special=True)
        entry = {"id": token_id, "token": piece.decode(errors="ignore"), "bytes": list(piece)}
        if self.asked.get("post_sampling_probs"):
            return {**entry, "prob": math.exp(logprob)}
        return {**entry, "logprob": max(logprob, LEAST_LOGPROB)}


def _stop_type(end: EndEvent) -> str:
    if end.finish_reason == "stop":
        return "eos" if end.matched_stop is None else "word"
    return "limit" if end.finish_reason == "length" else "none"


def _picked(answer: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The members of `answer` that `names` lists; a slash leads into an object, and what is not there is left out."""
    picked = {}
    for name in names:
        value: Any = answer
        for part in name.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            picked[name] = value
    return picked
