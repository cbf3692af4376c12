"""Running requests on an engine, and what every generation must look like."""

from __future__ import annotations

from collections import defaultdict

from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent, Event, LastEvent, StartedEvent, TokenEvent
from llorch.engine.request import Request


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
