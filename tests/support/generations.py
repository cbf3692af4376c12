"""Running requests on an engine, and what every generation must look like."""

from __future__ import annotations

from collections import defaultdict

from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent, Event, LastEvent, StartedEvent, TokenEvent
from llorch.engine.request import Request
from llorch.text.tokenizer import Tokenizer


def run(engine: Engine, *requests: Request) -> dict[str, list[Event]]:
    """All events by job, until nothing is left to do."""
    for request in requests:
        engine.add(request)
    events: dict[str, list[Event]] = defaultdict(list)
    while engine.has_work:
        for step_event in engine.step():
            events[step_event.job_id].append(step_event.event)
    return events


def end_of(events: list[Event]) -> EndEvent:
    """The last event, which must be no error."""
    end = events[-1]
    assert isinstance(end, EndEvent)
    return end


def check_protocol(events: list[Event]) -> None:
    """started, then tokens that count up and spell the text, then exactly one end or error."""
    assert isinstance(events[0], StartedEvent)
    tokens = [event for event in events[1:-1] if isinstance(event, TokenEvent)]
    assert len(tokens) == len(events) - 2
    assert [token.i for token in tokens] == list(range(len(tokens)))
    end = events[-1]
    assert isinstance(end, LastEvent)
    if isinstance(end, EndEvent):
        assert "".join(token.text for token in tokens) == end.text
        ids = [token.id for token in tokens]
        if ids and ids[-1] is None:
            ids.pop()
        assert tuple(ids) == end.token_ids
        assert end.usage.completion_tokens == len(end.token_ids)


def check_end(events: list[Event], request: Request, n_ctx: int, tokenizer: Tokenizer) -> EndEvent:
    """The rule of `docs/generations.md`, for a generation without a fault; its last event."""
    check_protocol(events)
    end = end_of(events)
    n, n_prompt = len(end.token_ids), len(request.token_ids)
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (n_prompt, n)
    assert not any(tokenizer.is_eog(token_id) for token_id in end.token_ids)
    limit = min(request.max_tokens, n_ctx - n_prompt)
    spelled = tokenizer.decode(end.token_ids, prompt_ids=request.token_ids)
    if end.matched_stop is not None:
        assert end.finish_reason == "stop"
        assert end.matched_stop in request.stop
        assert spelled.startswith(end.text + end.matched_stop)
        assert n <= limit
    elif end.finish_reason == "length":
        assert (end.text, n) == (spelled, limit)
    else:
        assert n < limit
        assert end.finish_reason == "abort" or not request.ignore_eos
        completes_stop = end.finish_reason == "abort" and any(stop in spelled for stop in request.stop)
        assert spelled.startswith(end.text) if completes_stop else end.text == spelled
    assert not any(stop in end.text for stop in request.stop)
    return end
