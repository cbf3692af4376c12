"""Items that nobody could mean: each list of them is refused by name or read, whatever it holds, and soon."""

from __future__ import annotations

import json
import random
import re
import time
from typing import Any

import pytest

from llorch.errors import MAX_FAULTS, FieldError, RequestError
from llorch.server.routes.openai.responses.request import parse_response

ODD: tuple[Any, ...] = (
    None, True, -1, 2**70, 1e308, "", "\x00", "x" * 300, [], [[]], {}, {"a": []}, [None], "\ud800",
    {"type": "input_text"}, [{"type": "output_text", "text": "a"}], [{"type": "refusal"}], "c1", "{}",
)  # fmt: skip
ITEMS: tuple[dict[str, Any], ...] = (
    {"role": "user", "content": "a"},
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "a"}],
    },
    {"role": "developer", "content": [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]},
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call", "call_id": "c2", "name": "g", "arguments": '{"a": [1]}'},
    {"type": "function_call_output", "call_id": "c1", "output": "a"},
    {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "a"}]},
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "item_reference", "id": "msg_1"},
)
BOUND_S = 5.0
"""CPU seconds in which any body of a megabyte is read or refused; each takes a fraction of one."""


def faults_of(body: dict[str, Any]) -> list[FieldError]:
    """What is wrong with a body; if nothing is, its messages can be written."""
    try:
        given = parse_response(body, 1_000_000)
    except RequestError as error:
        return error.errors
    json.dumps(given["messages"], ensure_ascii=False).encode()
    return []


def is_read(body: dict[str, Any]) -> bool:
    """Whether a body is read; each of its faults names a field of it, or a part of one; the last may be a count."""
    faults = faults_of(body)
    if len(faults) > MAX_FAULTS:
        rest = faults.pop()
        assert rest.field == "body"
        assert re.fullmatch(r"\d+ more faults", rest.message)
    assert all(fault.field.startswith(tuple(body)) for fault in faults)
    assert all(fault.message.startswith(fault.field) for fault in faults)
    return not faults


def mutated(chance: random.Random) -> dict[str, Any]:
    """An item with a member or two that are odd or missing."""
    item = dict(chance.choice(ITEMS))
    for _ in range(chance.randrange(3)):
        key = chance.choice((*item, "type", "role"))
        if chance.random() < 0.2:
            item.pop(key, None)
        else:
            item[key] = chance.choice(ODD)
    return item


def test_any_mixture_of_odd_items_is_read_or_refused_by_name() -> None:
    n_refused = n_read = 0
    for seed in range(3000):
        chance = random.Random(seed)
        given = [
            chance.choice(ODD) if chance.random() < 0.02 else mutated(chance)
            for _ in range(chance.randrange(1, 7))
        ]
        if is_read({"input": given}):
            n_read += 1
        else:
            n_refused += 1
    assert min(n_refused, n_read) > 100


def deep(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


PAIR = [
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "a"},
]
SHAPE = {"type": "json_schema", "name": "f"}
CALLED = {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": [{}] * 300_000}, False), ({"input": [{}] * 4096}, False), ({"input": deep(900)}, False),
        ({"input": [{"role": "user", "content": deep(900)}]}, False),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}] * 30_000}]}, False),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}] * 1000}] * 30}, True),
        ({"input": PAIR * 2048}, True), ({"input": [PAIR[0]] * 4096}, False),
        ({"input": [PAIR[0], *[CALLED] * 1000]}, True),
        ({"input": [PAIR[0], *[CALLED] * 4095]}, False),
        ({"input": [{**PAIR[0], "arguments": "[" * 400_000}]}, False),
        ({"input": [{**PAIR[0], "arguments": deep(900)}]}, False),
        ({"input": "a", "tools": [{"type": "function", "name": "f", "parameters": deep(900)}]}, False),
        ({"input": "a", "tools": [{}] * 100_000}, False), ({"input": "a", "tools": deep(900)}, False),
        ({"input": "a", "text": {"format": {**SHAPE, "schema": {"items": deep(900)}}}}, False),
        ({"input": "a", "text": deep(900)}, False),
        ({"input": "a", "metadata": {str(i): "a" for i in range(50_000)}}, False),
        ({"input": "a", "metadata": {"a": deep(900)}}, False), ({"input": "a", "include": [deep(900)] * 100}, False),
        ({"input": "a", "tool_choice": deep(900)}, False),
    ],
)  # fmt: skip
def test_huge_lists_and_deep_nests_are_read_or_refused_soon(body: dict[str, Any], expected: bool) -> None:
    began_s = time.process_time()
    assert is_read(body) is expected
    assert time.process_time() - began_s < BOUND_S
