"""Choices as JSON: what each event is worth in a stream, and what the streams of several choices end with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llorch.engine.events import (
    EndEvent,
    ErrorEvent,
    Event,
    ProgressEvent,
    StartedEvent,
    Timings,
    TokenEvent,
    Usage,
)
from llorch.server.routes.openai.answer import Answer
from llorch.server.routes.openai.chat_text import ChatText
from llorch.server.routes.openai.completion_text import CompletionText
from tests.support.openai_client import frames
from tests.support.vocabularies import make_tokenizer

TOKENIZER = make_tokenizer(["ab"])
STARTED = StartedEvent("job", "model", 3, 1)
ERROR = ErrorEvent("numerical_error", "the model's output is unusable", retriable=False)


def end(n_prompt: int = 3, n_completion: int = 2, n_cached: int = 1) -> EndEvent:
    usage = Usage(n_prompt, n_completion, n_cached)
    return EndEvent("job", "stop", "ab", (259,) * n_completion, usage, 1, None, Timings(0, 0, 0, 0, 0))


def chat(n: int = 1, **more: Any) -> ChatText:
    answer = Answer("id", "chat.completion.chunk", "model", n, n, **more)
    return ChatText(answer, TOKENIZER, [(1, 2, 3)] * n, has_logprobs=False, has_token_ids=False)


def completion(n_choices: int = 1, n: int = 1, **more: Any) -> CompletionText:
    answer = Answer("id", "text_completion", "model", n_choices, n, **more)
    prompts = [(1, 2, 3)] * n_choices
    return CompletionText(answer, TOKENIZER, prompts, echoed=None, has_logprobs=False, has_token_ids=False)


def sent(text: ChatText | CompletionText, *events: tuple[int, Event]) -> list[Any]:
    data = b"".join(text.frames(event) for event in events)
    return [one if one == "[DONE]" else json.loads(one) for one in frames(data)]


@pytest.mark.parametrize("text", [chat(), completion()])
def test_a_stream_that_fails_ends_with_the_error_and_is_not_done(text: Any) -> None:
    *_, last = sent(text, (0, STARTED), (0, TokenEvent(0, 259, "ab")), (0, ERROR))
    assert last == {
        "error": {"message": ERROR.message, "type": "server_error", "param": None, "code": "numerical_error"}
    }


@pytest.mark.parametrize("text", [chat(), completion()])
def test_text_that_is_held_back_sends_nothing(text: Any) -> None:
    assert text.frames((0, TokenEvent(0, 259, ""))) == b""
    (rest,) = sent(text, (0, TokenEvent(1, None, "abab")))
    assert "abab" in json.dumps(rest)


@pytest.mark.parametrize("make", [chat, completion])
def test_a_stream_of_several_is_done_when_the_last_choice_is(make: Any) -> None:
    text = make(2, 2, includes_usage=True) if make is completion else make(2, includes_usage=True)
    first = sent(text, (1, end(n_completion=5)))
    assert [one["choices"][0]["index"] for one in first] == [1]
    last, counts, done = sent(text, (0, end()))
    assert last["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"
    assert counts["choices"] == []
    assert counts["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 7,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert "timings" not in counts


def test_each_prompt_counts_once_whatever_n_is() -> None:
    text = completion(4, 2, includes_usage=True)
    ends = [(0, end(3)), (1, end(3)), (2, end(7)), (3, end(7))]
    *_, counts, _ = sent(text, *ends)
    assert (counts["usage"]["prompt_tokens"], counts["usage"]["completion_tokens"]) == (10, 8)


@pytest.mark.parametrize("text", [chat(), completion()])
def test_progress_is_a_chunk_without_text(text: Any) -> None:
    (chunk,) = sent(text, (0, ProgressEvent(9, 2, 5, 0.5)))
    assert chunk["prompt_progress"] == {"total": 9, "cache": 2, "processed": 5, "time_ms": 500}
    assert chunk["choices"][0]["finish_reason"] is None
