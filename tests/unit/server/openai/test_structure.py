"""What `response_format` and `tools` ask for, and how their faults are named."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.chat.builtin import BUILTIN
from llorch.chat.structure import ModelStructure
from llorch.chat.template import ChatTemplate
from llorch.chat.text_rule import TextRule
from llorch.chat.tools import ToolChoice
from llorch.engine.events import ErrorEvent
from llorch.errors import FieldError, RequestError
from llorch.server.errors import GenerationFailedError
from llorch.server.routes.openai.chat import parse_chat
from llorch.server.routes.openai.completions import parse_completion
from llorch.server.routes.openai.constraints import CONSTRAINTS, Document
from llorch.server.routes.openai.errors import event_error
from llorch.server.routes.openai.structure import FREE, Structure, parse_structure
from llorch.text.vocab import TokenType
from tests.support.vocabularies import make_tokenizer

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
LOOK_AROUND = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=a)b"}}}


def structure(**body: Any) -> Structure:
    faults: list[FieldError] = []
    found = parse_structure(body, faults, has_tools=True)
    assert faults == []
    return found


def model(template: str = "chatml") -> ModelStructure:
    tokenizer = make_tokenizer(special=[("<|im_start|>", TokenType.CONTROL)])
    return ModelStructure(tokenizer, ChatTemplate(BUILTIN[template], tokenizer, template))


@pytest.mark.parametrize(
    ("body", "document"),
    [
        ({}, None),
        ({"response_format": None}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Document({"type": "object"}, "response_format")),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            Document(SCHEMA, "response_format.schema"),
        ),
        (
            {"response_format": {"type": "json_schema", "schema": SCHEMA}},
            Document(SCHEMA, "response_format.schema"),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            Document(SCHEMA, "response_format.json_schema.schema"),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}},
            Document(SCHEMA, "response_format.json_schema.schema", is_strict=True),
        ),
        ({"json_schema": SCHEMA}, Document(SCHEMA, "json_schema")),
        ({"json_schema": {}}, None),
    ],
)
def test_documents_have_the_spellings_of_openai_and_of_llama_server(
    body: dict[str, Any], document: Document | None
) -> None:
    assert structure(**body).document == document


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (5, "response_format"),
        ("json", "response_format"),
        ({}, "response_format"),
        ({"type": "xml"}, "response_format"),
        ({"type": ["json_object"]}, "response_format"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": 5}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {}}, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"schema": []}}, "response_format.json_schema.schema"),
        (
            {"type": "json_schema", "json_schema": {"schema": {"const": "x" * 5000}}},
            "response_format.json_schema.schema",
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": {}, "strict": 1}},
            "response_format.json_schema.strict",
        ),
    ],
)
def test_a_fault_of_the_format_names_its_field(value: object, field: str) -> None:
    for parse in (parse_chat, parse_completion):
        body = {"messages": [{"role": "user", "content": "a"}], "prompt": "a", "response_format": value}
        with pytest.raises(RequestError) as refused:
            parse(body, 100)
        assert [fault.field for fault in refused.value.errors] == [field]


def test_faults_of_structure_are_told_with_all_others() -> None:
    body = {"messages": [], "temperature": 9, "response_format": 5, "tools": [5], "tool_choice": "any"}
    with pytest.raises(RequestError) as refused:
        parse_chat(body, 100)
    fields = {fault.field for fault in refused.value.errors}
    assert fields == {"messages", "temperature", "response_format", "tools[0].type", "tool_choice"}


def test_a_body_that_asks_for_nothing_asks_for_any_text() -> None:
    assert structure(tools=[], tool_choice="auto", response_format={"type": "text"}) == FREE
    assert structure() == FREE
    assert FREE.constraint(model()) is None
    assert FREE.parser(model()) is None


def test_tools_make_a_parser_and_a_constraint_unless_none_is_chosen() -> None:
    asked = structure(tools=[TOOL], parallel_tool_calls=False)
    assert asked.choice == ToolChoice("auto")
    assert not asked.is_parallel
    assert asked.parser(model()) is not None
    assert asked.constraint(model()) is not None
    never = structure(tools=[TOOL], tool_choice="none")
    assert never.parser(model()) is None
    assert never.constraint(model()) is None


def test_tools_are_shown_to_the_model_unless_none_may_be_called() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    (first, _), tools = structure(tools=[TOOL]).prompt_of(model(), messages)
    assert "add" in first["content"]
    assert tools is None  # the template would not show them
    assert structure(tools=[TOOL], tool_choice="none").prompt_of(model(), messages) == (messages, None)
    assert structure().prompt_of(model("llama2"), messages) == (messages, None)


def test_a_model_that_cannot_call_tools_refuses_them() -> None:
    with pytest.raises(RequestError) as refused:
        structure(tools=[TOOL]).parser(model("llama2"))
    assert refused.value.errors[0].field == "tools"
    assert structure(tools=[TOOL], tool_choice="none").parser(model("llama2")) is None


def test_tools_whose_schemas_cannot_be_enforced_are_refused_only_where_they_must_be() -> None:
    loose = {"type": "function", "function": {"name": "f", "parameters": LOOK_AROUND}}
    strict = {"type": "function", "function": {"name": "f", "parameters": LOOK_AROUND, "strict": True}}
    assert structure(tools=[loose]).constraint(model()) is None
    for asked in (structure(tools=[strict]), structure(tools=[loose], tool_choice="required")):
        with pytest.raises(RequestError) as refused:
            asked.constraint(model())
        assert refused.value.errors[0].field == "tools[0].function.parameters"


def test_a_grammar_that_fails_on_the_way_is_the_request_s_fault() -> None:
    event = ErrorEvent("constraint_error", "the grammar cannot go on", retriable=False)
    assert GenerationFailedError(event).status == 400
    assert event_error(event)["error"] == {
        "message": "the grammar cannot go on",
        "type": "invalid_request_error",
        "param": None,
        "code": "constraint_error",
    }


@pytest.mark.parametrize("strict", [True, False, None])
def test_only_a_strict_schema_is_refused_for_what_no_grammar_enforces(strict: bool | None) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    asked = structure(
        response_format={"type": "json_schema", "json_schema": {"schema": schema, "strict": strict}}
    )
    if not strict:
        assert asked.constraint(model()) is not None
        return
    with pytest.raises(RequestError, match="uniqueItems") as refused:
        asked.constraint(model())
    assert refused.value.errors[0].field == "response_format.json_schema.schema"


GRAMMAR = 'root ::= "a"'


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"grammar": GRAMMAR}, TextRule("grammar", GRAMMAR, "grammar")),
        ({"guided_grammar": GRAMMAR}, TextRule("grammar", GRAMMAR, "guided_grammar")),
        ({"guided_regex": "a+"}, TextRule("regex", "a+", "guided_regex")),
        ({"guided_choice": ["a"]}, TextRule("choice", ["a"], "guided_choice")),
        ({"structured_outputs": {"regex": "a"}}, TextRule("regex", "a", "structured_outputs.regex")),
        (
            {"structured_outputs": {"choice": ["a"], "json": {}, "regex": "", "disable_fallback": True}},
            TextRule("choice", ["a"], "structured_outputs.choice"),
        ),
        ({"structured_outputs": {"grammar": GRAMMAR, "json_object": False}, "guided_regex": ""},
         TextRule("grammar", GRAMMAR, "structured_outputs.grammar")),
    ],
)  # fmt: skip
def test_rules_have_the_names_of_llama_server_and_of_vllm(body: dict[str, Any], rule: TextRule) -> None:
    assert structure(**body).rule == rule
    assert structure(**body).document is None


@pytest.mark.parametrize(
    ("body", "document"),
    [
        ({"guided_json": SCHEMA}, Document(SCHEMA, "guided_json")),
        ({"guided_json": '{"type": "object"}'}, Document({"type": "object"}, "guided_json")),
        ({"structured_outputs": {"json": SCHEMA}}, Document(SCHEMA, "structured_outputs.json")),
        ({"structured_outputs": {"json_object": True}},
         Document({"type": "object"}, "structured_outputs.json_object")),
    ],
)  # fmt: skip
def test_documents_have_the_names_of_vllm_too(body: dict[str, Any], document: Document) -> None:
    assert structure(**body).document == document


@pytest.mark.parametrize("value", [None, "", [], {}])
@pytest.mark.parametrize("name", [name for name in CONSTRAINTS if name != "response_format"])
def test_null_and_empty_values_bind_nothing(name: str, value: object) -> None:
    assert structure(**{name: value}) == FREE


@pytest.mark.parametrize(
    ("body", "both"),
    [
        ({"grammar": GRAMMAR, "guided_regex": "a"}, "grammar and guided_regex"),
        ({"response_format": {"type": "json_object"}, "json_schema": SCHEMA}, "response_format and json_schema"),
        ({"guided_choice": ["a"], "structured_outputs": {"regex": "a"}}, "structured_outputs and guided_choice"),
        ({"structured_outputs": {"regex": "a", "json": SCHEMA}},
         "structured_outputs.json and structured_outputs.regex"),
    ],
)  # fmt: skip
def test_two_constraints_are_refused_by_both_names(body: dict[str, Any], both: str) -> None:
    faults: list[FieldError] = []
    parse_structure(body, faults, has_tools=True)
    assert [fault.message for fault in faults] == [f"{both}: a request takes one of them"]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"structural_tag": "x"}, "structured_outputs.structural_tag"),
        ({"whitespace_pattern": " *"}, "structured_outputs.whitespace_pattern"),
        ({"disable_additional_properties": 0}, "structured_outputs.disable_additional_properties"),
        ({"disable_any_whitespace": True}, "structured_outputs.disable_any_whitespace"),
        ({"xml": None}, "structured_outputs.xml"),
        ({"regex": 5}, "structured_outputs.regex"),
        ({"json_object": 5}, "structured_outputs.json_object"),
        ("regex", "structured_outputs"),
    ],
)
def test_what_structured_outputs_cannot_say_is_refused_by_name(value: object, field: str) -> None:
    faults: list[FieldError] = []
    parse_structure({"structured_outputs": value}, faults, has_tools=False)
    assert [fault.field for fault in faults] == [field]


def test_a_rule_cannot_stand_beside_tools_that_may_be_called() -> None:
    faults: list[FieldError] = []
    parse_structure({"grammar": GRAMMAR, "tools": [TOOL]}, faults, has_tools=True)
    assert [fault.message for fault in faults] == ["grammar: only without tools that may be called"]
    assert structure(grammar=GRAMMAR, tools=[TOOL], tool_choice="none").constraint(model()) is not None
