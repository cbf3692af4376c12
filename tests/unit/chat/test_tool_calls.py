"""Tool calls are found in texts, however they are cut; what is no call stays content."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.chat.call_deltas import CallArguments, CallBegin, Content, Delta, new_call_id
from llorch.chat.tool_calls import ToolCallParser
from llorch.chat.tool_format import HERMES, LLAMA, MISTRAL, SMOLLM2, ToolFormat

NAMES = ("get_weather", "add")
CALL = '{"name": "add", "arguments": {"a": 1, "b": "}\\"{"}}'
LLAMA_CALL = CALL.replace("arguments", "parameters")
ARGUMENTS = '{"a": 1, "b": "}\\"{"}'


def deltas(pieces: list[str], tool_format: ToolFormat, *, is_parallel: bool = True) -> list[Delta]:
    count = itertools.count()
    parser = ToolCallParser(tool_format, NAMES, is_parallel=is_parallel, new_id=lambda: f"id{next(count)}")
    found = [delta for piece in pieces for delta in parser.push(piece)]
    return found + parser.finish()


def joined(found: list[Delta]) -> tuple[str, list[tuple[str, str]]]:
    """Content, and names and arguments of the calls."""
    content = "".join(delta.text for delta in found if isinstance(delta, Content))
    begun = [delta for delta in found if isinstance(delta, CallBegin)]
    assert [delta.index for delta in begun] == list(range(len(begun)))
    calls = []
    for begin in begun:
        texts = [d.text for d in found if isinstance(d, CallArguments) and d.index == begin.index]
        calls.append((begin.name, "".join(texts)))
    return content, calls


CASES: list[tuple[ToolFormat, str, str, list[str]]] = [
    (HERMES, "Hello, world!", "Hello, world!", []),
    (HERMES, f"<tool_call>\n{CALL}\n</tool_call>", "", [ARGUMENTS]),
    (HERMES, f"<tool_call>\n{CALL}\n", "", [ARGUMENTS]),
    (HERMES, f"I look.\n<tool_call>\n{CALL}\n</tool_call>\nDone.", "I look.\nDone.", [ARGUMENTS]),
    (HERMES, f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", "", [ARGUMENTS] * 2),
    (HERMES, f"<tool_call>[{CALL}, {CALL}]</tool_call>", "", [ARGUMENTS] * 2),
    (HERMES, '<tool_call>{"arguments": {"x": [1]}, "name": "add"}</tool_call>', "", ['{"x": [1]}']),
    (HERMES, '<tool_call>{"name": "add", "arguments": "{\\"x\\": 1}"}</tool_call>', "", ['{"x": 1}']),
    (HERMES, '<tool_call>{"name": "add"}</tool_call>', "", ["{}"]),
    (SMOLLM2, f"<tool_call>[\n{CALL},\n{CALL}\n]</tool_call>", "", [ARGUMENTS] * 2),
    (SMOLLM2, "<tool_call>[]</tool_call>", "<tool_call>[]</tool_call>", []),
    (LLAMA, LLAMA_CALL, "", [ARGUMENTS]),
    (LLAMA, f"\n\n<|python_tag|>{LLAMA_CALL}", "", [ARGUMENTS]),
    (LLAMA, f"{LLAMA_CALL}; {LLAMA_CALL}", "", [ARGUMENTS] * 2),
    (LLAMA, '{"type": "function", "name": "add", "parameters": {}}', "", ["{}"]),
    (LLAMA, '{"name": "Ann", "parameters": {}}', '{"name": "Ann", "parameters": {}}', []),
    (LLAMA, '{"answer": 42}', '{"answer": 42}', []),
    (LLAMA, f"So: {LLAMA_CALL}", f"So: {LLAMA_CALL}", []),
    (LLAMA, "<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
    (LLAMA, f"{LLAMA_CALL} and more", " and more", [ARGUMENTS]),
    (MISTRAL, f"[TOOL_CALLS][{CALL}]", "", [ARGUMENTS]),
    (MISTRAL, f'[TOOL_CALLS] [{CALL[:-1]}, "id": "123456789"}}]', "", [ARGUMENTS]),
]


@pytest.mark.parametrize(("tool_format", "text", "content", "arguments"), CASES)
def test_calls_are_found_and_the_rest_is_content(
    tool_format: ToolFormat, text: str, content: str, arguments: list[str]
) -> None:
    expected = (content, [("add", item) for item in arguments])
    assert joined(deltas([text], tool_format)) == expected
    assert joined(deltas(list(text), tool_format)) == expected


MALFORMED = [
    "<tool_call>",
    "<tool_call>\n{",
    '<tool_call>{"name": "subtract", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "add", "arguments": 1}</tool_call>',
    '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
    '<tool_call>{"name": "add" "arguments": {}}</tool_call>',
    '<tool_call>{"name": "add", "comment": "x", "arguments": {}}</tool_call>',
    "<tool_call>add(1, 2)</tool_call>",
    "<tool_call>" + '{"name": ' * 5000 + "}" * 5000,
    "<tool_call",
    "a < b, <tool_calls> and </tool_call>",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_no_call_is_content_to_the_letter(text: str) -> None:
    assert joined(deltas([text], HERMES)) == (text, [])
    assert joined(deltas([text, f"<tool_call>{CALL}</tool_call>"], HERMES))[1] in ([("add", ARGUMENTS)], [])


def test_a_call_behind_a_malformed_one_is_found() -> None:
    text = f"<tool_call>nonsense</tool_call><tool_call>{CALL}</tool_call>"
    assert joined(deltas([text], HERMES)) == ("<tool_call>nonsense</tool_call>", [("add", ARGUMENTS)])


def test_a_malformed_item_behind_a_call_is_content() -> None:
    text = f'<tool_call>[{CALL}, {{"x": "<tool_call>"}}]</tool_call>'
    content, calls = joined(deltas([text], HERMES))
    assert calls == [("add", ARGUMENTS)]
    assert content == ', {"x": "<tool_call>"}]</tool_call>'


def test_an_answer_that_breaks_off_keeps_the_arguments_that_came() -> None:
    text = '<tool_call>{"name": "add", "arguments": {"a": 12'
    assert joined(deltas([text], HERMES)) == ("", [("add", '{"a": 12')])


def test_the_name_comes_with_the_beginning_of_the_arguments_and_these_as_they_come() -> None:
    parser = ToolCallParser(HERMES, NAMES, new_id=lambda: "x")
    assert parser.push('<tool_call>\n{"name": "add", "argu') == []
    assert parser.push('ments": {"a"') == [CallBegin(0, "x", "add"), CallArguments(0, '{"a"')]
    assert parser.push(": 1") == [CallArguments(0, ": 1")]
    assert parser.push("}}\n</tool") == [CallArguments(0, "}")]
    assert parser.push("_call>") == []
    assert parser.finish() == []


def test_content_is_not_held_back_longer_than_it_may_be_a_call() -> None:
    parser = ToolCallParser(HERMES, NAMES)
    assert parser.push("It is 5 <") == [Content("It is 5")]
    assert parser.push(" 6.") == [Content(" < 6.")]
    parser = ToolCallParser(LLAMA, NAMES)
    assert parser.push('{"answer"') == [Content('{"answer"')]
    assert parser.push(": 1") == [Content(": 1")]


def test_without_parallel_calls_only_the_first_is_one() -> None:
    second = f"<tool_call>{CALL}</tool_call>"
    assert joined(deltas([f"{second}\n{second}"], HERMES, is_parallel=False)) == (
        f"\n{second}",
        [("add", ARGUMENTS)],
    )


def test_ids_are_nine_letters_and_digits() -> None:
    ids = {new_call_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 9 and one.isalnum() and one.isascii() for one in ids)


PARTS = st.sampled_from(
    [
        "<tool_call>", "</tool_call>", "<tool", "\n", " ", CALL, LLAMA_CALL, "[", "]", ",", ";", "{", "}", '"', "\\",
        '{"name": "add", "arguments": ', '{"name": "add", "parameters": {', '{"name": "no"', "word", "<|python_tag|>",
        "[TOOL_CALLS]", '"id": "abc"', ARGUMENTS,
    ]
)  # fmt: skip


@given(
    st.lists(PARTS, max_size=12).map("".join),
    st.sampled_from([HERMES, SMOLLM2, LLAMA, MISTRAL]),
    st.booleans(),
    st.data(),
)
def test_any_cut_of_a_text_gives_the_same_content_and_calls(
    text: str, tool_format: ToolFormat, is_parallel: bool, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    whole = joined(deltas([text], tool_format, is_parallel=is_parallel))
    assert joined(deltas(pieces, tool_format, is_parallel=is_parallel)) == whole
    assert joined(deltas(list(text), tool_format, is_parallel=is_parallel)) == whole
    content, calls = whole
    if not calls:
        assert content == text
    for _, arguments in calls[:-1]:
        assert arguments.startswith("{")


def test_arguments_of_a_complete_call_are_json() -> None:
    _, calls = joined(deltas(list(f"<tool_call>{CALL}</tool_call>"), HERMES))
    assert json.loads(calls[0][1]) == {"a": 1, "b": '}"{'}
