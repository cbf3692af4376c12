"""Grammars of calls: what they let pass in each form, and which tool a fault is of."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from llorch.chat.grammar import Grammars, json_rule
from llorch.chat.tool_calls import ToolCallParser
from llorch.chat.tool_format import HERMES, LLAMA, MISTRAL, SMOLLM2, ToolFormat
from llorch.chat.tool_grammar import MAX_CALLS, tool_calls_constraint
from llorch.chat.tools import parse_tools
from llorch.errors import RequestError
from llorch.text.tokenizer import Tokenizer, load_tokenizer
from llorch.text.vocab import TokenType
from tests.support.constraints import fault_of, random_answer, real_tokenizer
from tests.support.vocabularies import bpe_metadata

NUMBERS = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"type": "integer", "maximum": 99, "minimum": 0}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"n": {"type": "integer", "maximum": 9, "minimum": 0}},
}
TOOLS = parse_tools(
    [
        {"type": "function", "function": {"name": "add", "parameters": NUMBERS}},
        {"type": "function", "function": {"name": "now"}},
    ],
    [],
)
ADD = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
NOW = '{"name": "now", "arguments": {}}'
LLAMA_ADD = ADD.replace("arguments", "parameters")
ONE = {
    HERMES: f"<tool_call>\n{ADD}\n</tool_call>",
    SMOLLM2: f"<tool_call>[{ADD}]</tool_call>",
    LLAMA: LLAMA_ADD,
    MISTRAL: f"[TOOL_CALLS][{NOW}]",
}
TWO = {
    HERMES: f"<tool_call>\n{ADD}\n</tool_call>\n<tool_call>\n{NOW}\n</tool_call>",
    SMOLLM2: f"<tool_call>[{ADD}, {NOW}]</tool_call>",
    MISTRAL: f"[TOOL_CALLS][{NOW}, {NOW}]",
}
FORMATS = [HERMES, SMOLLM2, LLAMA, MISTRAL]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return real_tokenizer("stories260K-q8_0.gguf")


def fault(tokenizer: Tokenizer, tool_format: ToolFormat, text: str, **options: Any) -> str | None:
    """What keeps `text` from being an answer."""
    defaults: dict[str, Any] = {"is_required": False, "is_parallel": True}
    make = tool_calls_constraint(
        Grammars(tokenizer),
        tool_format,
        tool_format.control_marks(tokenizer.vocab),
        TOOLS,
        **{**defaults, **options},
    )
    assert make is not None
    return fault_of(make(), tokenizer, text)


@pytest.mark.parametrize("tool_format", FORMATS)
def test_a_required_call_is_a_call_from_the_first_token_on(
    tokenizer: Tokenizer, tool_format: ToolFormat
) -> None:
    assert fault(tokenizer, tool_format, ONE[tool_format], is_required=True) is None
    assert fault(tokenizer, tool_format, "Well", is_required=True) is not None
    wrong = ONE[tool_format].replace("add", "sub").replace("now", "then")
    assert fault(tokenizer, tool_format, wrong, is_required=True) is not None
    assert fault(tokenizer, tool_format, ONE[tool_format] + " and", is_required=True) is not None


@pytest.mark.parametrize("tool_format", TWO)
def test_several_calls_come_only_where_they_may(tokenizer: Tokenizer, tool_format: ToolFormat) -> None:
    assert fault(tokenizer, tool_format, TWO[tool_format], is_required=True) is None
    assert fault(tokenizer, tool_format, TWO[tool_format], is_required=True, is_parallel=False) is not None


def test_an_answer_has_a_bounded_number_of_calls(tokenizer: Tokenizer) -> None:
    calls = [NOW] * MAX_CALLS
    for is_required in (True, False):
        most = f"<tool_call>[{', '.join(calls)}]</tool_call>"
        assert fault(tokenizer, SMOLLM2, most, is_required=is_required) is None
        more = f"<tool_call>[{', '.join([*calls, NOW])}]</tool_call>"
        assert fault(tokenizer, SMOLLM2, more, is_required=is_required) is not None


@pytest.mark.parametrize("tool_format", [HERMES, SMOLLM2, MISTRAL])
def test_a_free_answer_is_any_text_but_behind_an_opener_comes_a_call(
    tokenizer: Tokenizer, tool_format: ToolFormat
) -> None:
    one = ONE[tool_format]
    for text in ("Hello.", 'A {"name": 5} < tool', f"I look.\n{one}", one, f"{one} Done.", one + one):
        assert fault(tokenizer, tool_format, text) is None, text
    stops = fault(tokenizer, tool_format, f"{tool_format.opener}hello")
    assert stops is not None
    assert stops.lstrip().startswith(tool_format.opener)
    assert fault(tokenizer, tool_format, one.replace(": 2", ": 100").replace("{}", "{1}")) is not None


def test_a_free_answer_of_llama_is_not_bound(tokenizer: Tokenizer) -> None:
    grammars = Grammars(tokenizer)
    make = tool_calls_constraint(grammars, LLAMA, {}, TOOLS, is_required=False, is_parallel=True)
    assert make is None


@pytest.mark.parametrize("tool_format", FORMATS)
def test_with_a_document_the_answer_is_that_or_calls(tokenizer: Tokenizer, tool_format: ToolFormat) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    rule = json_rule(schema, "response_format", False)
    assert fault(tokenizer, tool_format, ONE[tool_format], document=rule) is None
    assert fault(tokenizer, tool_format, '{"x": 1}', document=rule) is None
    assert fault(tokenizer, tool_format, "Hello", document=rule) is not None


def test_an_opener_that_is_a_control_token_is_that_token() -> None:
    marks = [(text, TokenType.CONTROL) for text in ("<eos>", "<tool_call>", "[TOOL_CALLS]")]
    ids = {"eos_token_id": 256, "bos_token_id": 256}
    tokenizer = load_tokenizer(bpe_metadata(special=marks, overrides=ids))
    for tool_format in (SMOLLM2, MISTRAL):
        for is_required in (True, False):
            assert fault(tokenizer, tool_format, ONE[tool_format], is_required=is_required) is None
    make = tool_calls_constraint(
        Grammars(tokenizer),
        SMOLLM2,
        SMOLLM2.control_marks(tokenizer.vocab),
        TOOLS,
        is_required=True,
        is_parallel=True,
    )
    assert make is not None
    allowed = np.unpackbits(make().allowed().view(np.uint8), bitorder="little").nonzero()[0]
    assert allowed.tolist() == [257]


@pytest.mark.parametrize("tool_format", FORMATS)
def test_the_parser_finds_what_the_grammar_makes(tokenizer: Tokenizer, tool_format: ToolFormat) -> None:
    make = tool_calls_constraint(
        Grammars(tokenizer),
        tool_format,
        tool_format.control_marks(tokenizer.vocab),
        TOOLS,
        is_required=True,
        is_parallel=True,
    )
    assert make is not None
    rng = np.random.default_rng(3)
    for _ in range(5):
        text = random_answer(make(), tokenizer, rng)
        parser = ToolCallParser(tool_format, ["add", "now"])
        deltas = [*parser.push(text), *parser.finish()]
        assert parser.n_calls >= 1, text
        assert not any(hasattr(delta, "text") and not hasattr(delta, "index") for delta in deltas), text
        arguments = "".join(getattr(delta, "text", "") for delta in deltas if getattr(delta, "index", 0) == 0)
        assert set(json.loads(arguments)) in ({"a", "b"}, set())


def test_a_fault_of_a_schema_names_its_tool(tokenizer: Tokenizer) -> None:
    faulty = {"type": "object", "properties": {"x": {"type": "string", "pattern": "("}}}
    tools = (
        *TOOLS,
        *parse_tools([{"type": "function", "function": {"name": "x", "parameters": faulty}}] * 1, []),
    )
    with pytest.raises(RequestError) as refused:
        tool_calls_constraint(Grammars(tokenizer), HERMES, {}, tools, is_required=True, is_parallel=True)
    assert refused.value.errors[0].field == "tools[0].function.parameters"
    assert "regex" in refused.value.errors[0].message
