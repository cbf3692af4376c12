"""Which objects of a schema have no properties but those that it names."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from llorch.chat.closed_schema import closed_schema
from llorch.chat.grammar import Grammars
from tests.support.constraints import is_whole, real_tokenizer

A: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
B: dict[str, Any] = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
CLOSED_A, CLOSED_B = ({**schema, "additionalProperties": False} for schema in (A, B))
CLOSED = {
    "an object": (A, CLOSED_A),
    "one in a list": ({"type": "array", "items": A}, {"type": "array", "items": CLOSED_A}),
    "one in a tuple": ({"prefixItems": [A, B]}, {"prefixItems": [CLOSED_A, CLOSED_B]}),
    "one or another": ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [CLOSED_A, {"type": "null"}]}),
    "one that is referred to": (
        {"$ref": "#/$defs/a", "$defs": {"a": A}},
        {"$ref": "#/$defs/a", "$defs": {"a": CLOSED_A}},
    ),
    "all of one": ({"allOf": [A], "title": "x"}, {"allOf": [CLOSED_A], "title": "x"}),
    "a property called properties": (
        {"properties": {"properties": A, "required": B}},
        {"properties": {"properties": CLOSED_A, "required": CLOSED_B}, "additionalProperties": False},
    ),
    "values of others": ({"additionalProperties": A}, {"additionalProperties": CLOSED_A}),
}
AS_IT_IS: dict[str, dict[str, Any]] = {
    "any object": {"type": "object"},
    "one that has others": {**A, "additionalProperties": True},
    "one with patterns": {**A, "patternProperties": {"^x": {"type": "integer"}}},
    "one that needs what it does not name": {**A, "required": ["a", "z"]},
    "one that needs more than it names": {**A, "minProperties": 2},
    "both of two": {"allOf": [A, B]},
    "one beside another": {**A, "$ref": "#/$defs/b", "$defs": {"b": B}},
    "either beside another": {**A, "anyOf": [B, {"required": ["c"]}]},
    "both of two that are referred to": {
        "allOf": [{"$ref": "#/$defs/a"}, {"anyOf": [B, {"$ref": "#/$defs/a"}]}],
        "$defs": {"a": A},
    },
    "what an object must not be": {"not": A},
    "values, which are no schemas": {"enum": [{"properties": {"a": 1}}], "default": A},
    "no object at all": {"type": "string"},
}


@pytest.mark.parametrize("case", CLOSED)
def test_what_alone_speaks_of_an_object_closes_it(case: str) -> None:
    schema, closed = CLOSED[case]
    before = copy.deepcopy(schema)
    assert closed_schema(schema) == closed
    assert schema == before
    assert closed_schema(closed) == closed


@pytest.mark.parametrize("case", AS_IT_IS)
def test_other_objects_stay_as_they_are(case: str) -> None:
    assert closed_schema(AS_IT_IS[case]) == AS_IT_IS[case]


def test_long_chains_of_references_are_followed() -> None:
    names = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}, {}]} for i in range(3000)}
    schema = {"$ref": "#/$defs/d0", "$defs": {**names, "d3000": A}}
    assert closed_schema(schema) == schema


def test_an_answer_has_the_properties_that_its_schema_names() -> None:
    tokenizer = real_tokenizer("stories260K-q8_0.gguf")
    grammars = Grammars(tokenizer)
    for schema, texts in (
        (A, {'{"a":1}': True, '{"a":1,"c":2}': False}),
        ({"allOf": [A, B]}, {'{"a":1,"b":2}': True}),
        ({**A, "additionalProperties": True}, {'{"a":1,"c":2}': True}),
    ):
        new = grammars.json_schema(schema, field="schema")
        for text, fits in texts.items():
            assert is_whole(new(), tokenizer, text) == fits
