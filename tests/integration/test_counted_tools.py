"""The routes that count tokens, and `/apply-template`, take the tools that the answering route takes, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.live_server import LiveServer

MESSAGES = [{"role": "user", "content": "Hi"}]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
LOOSE: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string", "not": {"const": "b"}}}}
"""What no grammar can hold, so that a strict tool of it is refused."""


def tool(name: object = "f", **more: object) -> dict[str, Any]:
    return {"name": name, "parameters": SCHEMA, **more}


DOCUMENT = {"type": "json_schema", "name": "d", "schema": SCHEMA}
CASES: dict[str, dict[str, Any]] = {
    "a tool": {"tools": [tool()]},
    "two tools": {"tools": [tool(), tool("g")]},
    "no tools": {"tools": []},
    "null": {"tools": None},
    "a number": {"tools": 5},
    "a list of lists": {"tools": [[]]},
    "the same name twice": {"tools": [tool(), tool()]},
    "no name": {"tools": [tool(None)]},
    "a surrogate in a name": {"tools": [tool("\ud800")]},
    "a bad schema": {"tools": [tool(parameters={"type": "odd"})]},
    "a strict bad schema": {"tools": [tool(parameters={"type": "odd"}, strict=True)]},
    "a loose schema": {"tools": [tool(parameters=LOOSE)]},
    "a strict loose schema": {"tools": [tool(parameters=LOOSE, strict=True)]},
    "a loose schema of a tool that must be called": {"tools": [tool(parameters=LOOSE)], "tool_choice": "required"},
    "a loose schema of a tool that is not called": {
        "tools": [tool(parameters=LOOSE, strict=True)], "tool_choice": "none"
    },
    "a loose schema beside a document": {"tools": [tool(parameters=LOOSE)], "document": DOCUMENT},
    "a document": {"tools": [tool()], "document": DOCUMENT},
    "a choice without tools": {"tool_choice": "required"},
    "a choice of none": {"tools": [tool()], "tool_choice": "none"},
    "an odd choice": {"tools": [tool()], "tool_choice": "all"},
    "parallel calls": {"tools": [tool()], "parallel_tool_calls": False},
    "odd parallel calls": {"tools": [tool()], "parallel_tool_calls": "no"},
    "a grammar": {"tools": [tool()], "grammar": 'root ::= "a"'},
}  # fmt: skip


def of_chat(case: dict[str, Any]) -> dict[str, Any]:
    """The body of a chat."""
    body = {name: value for name, value in case.items() if name != "document"}
    if isinstance(body.get("tools"), list):
        tools = [{"type": "function", "function": one} for one in body["tools"]]
        body["tools"] = tools
    if "document" in case:
        document = {name: value for name, value in case["document"].items() if name != "type"}
        body["response_format"] = {"type": "json_schema", "json_schema": document}
    return {"messages": MESSAGES, **body}


def of_response(case: dict[str, Any]) -> dict[str, Any]:
    """The body of a response, which has no grammars."""
    body = {name: value for name, value in case.items() if name not in ("document", "grammar")}
    if isinstance(body.get("tools"), list):
        body["tools"] = [
            {"type": "function", **one} if isinstance(one, dict) else one for one in body["tools"]
        ]
    if "document" in case:
        body["text"] = {"format": case["document"]}
    return {"input": "Hi", **body}


def of_message(case: dict[str, Any]) -> dict[str, Any]:
    """The body of a message, which has no documents and no grammars, and spells tools and choices in its own way."""
    tools, choice = case.get("tools"), case.get("tool_choice")
    if isinstance(tools, list):
        tools = [_input_schema(one) if isinstance(one, dict) else one for one in tools]
    body: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 1, "tools": tools}
    if choice is not None:
        body["tool_choice"] = {"type": {"required": "any"}.get(choice, choice)}
    return body


def _input_schema(one: dict[str, Any]) -> dict[str, Any]:
    return {{"parameters": "input_schema"}.get(name, name): value for name, value in one.items()}


ROUTES = {
    "/v1/chat/completions/input_tokens": ("/v1/chat/completions", of_chat, {"max_tokens": 1}),
    "/apply-template": ("/v1/chat/completions", of_chat, {"max_tokens": 1}),
    "/v1/responses/input_tokens": ("/v1/responses", of_response, {"max_output_tokens": 1}),
    "/v1/messages/count_tokens": ("/v1/messages", of_message, {}),
}


@pytest.fixture(scope="module", params=["chatml", "llama2"])
def served(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    """A model that can call tools, and one whose template cannot say them."""
    log = tmp_path_factory.mktemp("demo") / "log"
    server = LiveServer("demo", log, "--chat-template", request.param)
    yield server.wait_until_ready()
    assert "ERROR" not in server.log
    assert server.stop() == 0


def parsed(server: LiveServer, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and error, as JSON can spell lone surrogates."""
    answer = server.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    return answer.status_code, answer.json().get("error")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", ROUTES)
def test_a_count_is_refused_as_the_answer_would_be(served: LiveServer, path: str, case: str) -> None:
    answering, body_of, more = ROUTES[path]
    body = body_of(CASES[case])
    counted, answered = parsed(served, path, body), parsed(served, answering, {**body, **more})
    assert counted[0] == answered[0]
    if path.startswith("/v1/"):
        assert counted == answered
