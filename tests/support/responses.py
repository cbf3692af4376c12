"""The events of a streamed response, put together as clients do, with every rule of their order checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.support.live_server import LiveServer, events

PATH = "/v1/responses"
HEAD = {
    "id", "object", "created_at", "status", "background", "error", "incomplete_details", "instructions",
    "max_output_tokens", "metadata", "model", "output", "parallel_tool_calls", "previous_response_id", "reasoning",
    "store", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "usage",
}  # fmt: skip
"""Members of every `response` object."""
LAST = {"response.completed", "response.incomplete", "response.failed"}


def answered(server: LiveServer, **body: Any) -> dict[str, Any]:
    """A whole response."""
    answer = server.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert set(document) >= HEAD
    return document


def streamed(server: LiveServer, **body: Any) -> list[dict[str, Any]]:
    """The events of a streamed response; their names are their types, and there is nothing else."""
    with server.stream(PATH, json={**body, "stream": True}) as response:
        assert response.status_code == 200, response.read()
        found = list(events(response.iter_lines()))
    assert all(name == event["type"] for name, event in found)
    return [event for _, event in found]


def played(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The response that the events make: its output is put together from the deltas alone.

    Each event must come where OpenAI's come, and repeat what came before it.
    """
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    created, progress, *middle, last = found
    assert (created["type"], progress["type"]) == ("response.created", "response.in_progress")
    assert created["response"] == progress["response"]
    assert (created["response"]["status"], created["response"]["output"]) == ("in_progress", [])
    assert last["type"] in LAST
    output: list[dict[str, Any]] = []
    rest = list(middle)
    while rest:
        output.append(_item(rest, len(output)))
    response: dict[str, Any] = last["response"]
    assert set(response) >= HEAD
    fixed = HEAD - {"status", "output", "usage", "incomplete_details", "error"}
    assert {name: response[name] for name in fixed} == {name: created["response"][name] for name in fixed}
    assert response["output"] == output
    return response


def _item(rest: list[dict[str, Any]], index: int) -> dict[str, Any]:
    """The next item of the output, whose events are taken from `rest`."""
    added = rest.pop(0)
    assert added["type"] == "response.output_item.added"
    assert added["output_index"] == index
    item = added["item"]
    assert item["status"] == "in_progress"
    own = [event for event in rest if event["output_index"] == index]
    assert own == rest[: len(own)]
    del rest[: len(own)]
    *inner, done = own
    assert done["type"] == "response.output_item.done"
    assert {event["item_id"] for event in inner} == {item["id"]}
    if item["type"] == "message":
        assert item["content"] == []
        item = {**item, "content": [_text(inner)]}
    else:
        item = {**item, "arguments": _arguments(inner, item["name"])}
    assert done["item"]["status"] in ("completed", "incomplete")
    assert done["item"] == {**item, "status": done["item"]["status"]}
    final: dict[str, Any] = done["item"]
    return final


def _text(inner: list[dict[str, Any]]) -> dict[str, Any]:
    added, *deltas, done, part = inner
    assert {event["content_index"] for event in inner} == {0}
    assert (added["type"], added["part"]["text"]) == ("response.content_part.added", "")
    assert all(event["type"] == "response.output_text.delta" for event in deltas)
    assert all(event["delta"] or event["logprobs"] for event in deltas)
    text = "".join(event["delta"] for event in deltas)
    logprobs = [entry for event in deltas for entry in event["logprobs"]]
    assert (done["type"], done["text"], done["logprobs"]) == ("response.output_text.done", text, logprobs)
    assert part["type"] == "response.content_part.done"
    assert part["part"] == {**added["part"], "text": text, "logprobs": logprobs}
    found: dict[str, Any] = part["part"]
    return found


def _arguments(inner: list[dict[str, Any]], name: str) -> str:
    *deltas, done = inner
    assert all(event["type"] == "response.function_call_arguments.delta" for event in deltas)
    text = "".join(event["delta"] for event in deltas)
    assert done["type"] == "response.function_call_arguments.done"
    assert (done["name"], done["arguments"]) == (name, text)
    return text


def text_of(response: dict[str, Any]) -> str:
    """The text of all messages of the output."""
    parts = [part for item in response["output"] for part in item.get("content", ())]
    return "".join(part["text"] for part in parts)


def calls_of(response: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments of the calls of the output."""
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    return [(call["name"], json.loads(call["arguments"])) for call in calls]
