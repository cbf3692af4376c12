"""Log probabilities of a response: which tokens stand beside which text, where text is held back or becomes a call."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.chat.tool_calls import ToolCallParser
from llorch.chat.tool_format import HERMES
from llorch.server.routes.openai.responses.output import Output

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def messages(pieces: list[str], *, has_tools: bool = True) -> list[tuple[str, list[str]]]:
    """Text and tokens of each message of the answer that these tokens make, also put together from the deltas."""
    output = Output(ToolCallParser(HERMES, ["add"]) if has_tools else None)
    happened: list[dict[str, Any]] = []
    for piece in pieces:
        happened += output.push("" if piece.startswith("(") else piece, [{"token": piece}])
    happened += output.finish(is_complete=True)
    found: dict[int, tuple[str, list[str]]] = {}
    for event in happened:
        if event["type"] == "response.output_text.delta":
            text, tokens = found.get(event["output_index"], ("", []))
            tokens = tokens + [entry["token"] for entry in event["logprobs"]]
            found[event["output_index"]] = text + event["delta"], tokens
    parts = {i: item["content"][0] for i, item in enumerate(output.items) if item["type"] == "message"}
    whole = {i: (part["text"], [entry["token"] for entry in part["logprobs"]]) for i, part in parts.items()}
    assert {i: pair for i, pair in whole.items() if pair != ("", [])} == found
    return list(whole.values())


@pytest.mark.parametrize("has_tools", [False, True])
def test_each_token_stands_beside_the_text_that_it_made(has_tools: bool) -> None:
    assert messages(["Hi", " there", "."], has_tools=has_tools) == [("Hi there.", ["Hi", " there", "."])]
    assert messages(["(held)", "a"], has_tools=has_tools) == [("a", ["(held)", "a"])]
    assert messages(["a", "(held)"], has_tools=has_tools) == [("a", ["a", "(held)"])]
    assert messages(["(held)"], has_tools=has_tools) == [("", ["(held)"])]
    assert messages([], has_tools=has_tools) == [("", [])]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, len(CALL)])
def test_tokens_of_calls_stand_beside_no_text(size: int) -> None:
    call = [CALL[i : i + size] for i in range(0, len(CALL), size)]
    assert messages(["So", ".", " ", *call]) == [("So.", ["So", "."])]
    assert messages(call) == []
    found = messages(["So", *call, "Do", "ne", *call, "End"])
    assert found == [("So", ["So"]), ("Done", ["Do", "ne"]), ("End", ["End"])]


def test_what_looked_like_a_call_is_text_with_all_its_tokens() -> None:
    pieces = ["a", " ", "<tool", "_call>", "{", "no", "}"]
    assert messages(pieces) == [("a <tool_call>{no}", pieces)]
    assert messages(["a<to", "ol"]) == [("a<tool", ["a<to", "ol"])]
