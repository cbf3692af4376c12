"""Kinds of values that only OpenAI's fields have: prompts in four spellings, options of streams."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, TypeGuard

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from llorch.chat.text_rule import (
    MAX_CHOICE_CHARS,
    MAX_CHOICES,
    MAX_GRAMMAR_CHARS,
    MAX_REGEX_CHARS,
    RULES,
)
from llorch.chat.tools import MAX_TOOLS
from llorch.errors import FieldError
from llorch.fields.kinds import MAX_TOKEN_ID, Kind, described
from llorch.fields.token_kinds import TOKEN_ID_SCHEMA
from llorch.server.embeddings import MAX_INPUTS
from llorch.server.openapi import VECTOR_SIZE_SCHEMA

INT32_MAX = 2**31 - 1
MAX_PROMPTS = 64
"""Prompts of one request for texts; each needs a place in line."""

_IDS = {"type": "array", "items": TOKEN_ID_SCHEMA, "minItems": 1}
_TEXT = {"type": "string", "minLength": 1}


def is_token_ids(value: object) -> bool:
    """Whether `value` is a list of token ids; each item is looked at once, without a loop in Python."""
    return (
        isinstance(value, list)
        and set(map(type, value)) == {int}
        and min(value) >= 0
        and max(value) <= MAX_TOKEN_ID
    )


def is_text(value: object, least: int = 1) -> TypeGuard[str]:
    """Whether `value` is a string of at least so many characters, without lone surrogates."""
    if not isinstance(value, str) or len(value) < least:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def prompt_list(value: object) -> list[str | list[int]]:
    """The prompts that a field `prompt` of a valid value spells."""
    return value if isinstance(value, list) and not is_token_ids(value) else [value]  # type: ignore[list-item]


def length_faults(value: object, max_chars: int, name: str = "prompt") -> list[FieldError]:
    """A fault for each text among the prompts in the field `name` that is longer than `max_chars`."""
    rule = f"1 <= characters <= {max_chars}"
    return [
        FieldError(
            name,
            rule,
            f"{subject}: expected {rule} (max_prompt_chars of this server); got {len(text)} characters",
        )
        for subject, text in _texts(value, name)
        if len(text) > max_chars
    ]


def _texts(value: object, name: str) -> list[tuple[str, str]]:
    """The texts among prompts and what to call them."""
    if isinstance(value, str):
        return [(name, value)]
    if not isinstance(value, list) or is_token_ids(value):
        return []
    return [(f"{name}[{i}]", text) for i, text in enumerate(value) if isinstance(text, str)]


def _check_prompts(value: object, most: int) -> object:
    if is_text(value) or is_token_ids(value):
        return value
    if not isinstance(value, list) or not value:
        raise _bad(f"got {described(value)}")
    if not any(isinstance(item, str | list) for item in value):
        raise _bad(f"got a list of {len(value)} that are no token ids")
    if len(value) > most:
        raise _bad(f"got {len(value)} prompts")
    for i, item in enumerate(value):
        if not (is_text(item) or is_token_ids(item)):
            raise _bad(f"[{i}] is {described(item)}")
    return value


def _check_stream_options(value: object) -> object:
    if not isinstance(value, Mapping):
        raise _bad(f"got {described(value)}")
    include = value.get("include_usage")
    if include is not None and not isinstance(include, bool):
        raise _bad(f"got include_usage {described(include)}")
    return value


def _check_limit(value: object) -> object:
    if type(value) is not int or not (value == -1 or 1 <= value <= INT32_MAX):
        raise _bad(f"got {described(value)}")
    return value


def _check_dimensions(value: object) -> object:
    if type(value) is not int or value < 1:
        raise _bad(f"got {described(value)}")
    return value


def _check_object(value: object) -> object:
    if not isinstance(value, dict):
        raise _bad(f"got {described(value)}")
    return value


def _bad(message: str) -> Exception:
    return PydanticCustomError("bad_items", message)


def _kind(rule: str, check: Any, schema: dict[str, Any]) -> Kind:
    return Kind(Annotated[Any, BeforeValidator(check), WithJsonSchema(schema)], rule)


def _prompts(most: int) -> Kind:
    items = {"type": "array", "items": {"anyOf": [_TEXT, _IDS]}, "minItems": 1, "maxItems": most}
    rule = "text, token ids, or a list of up to "
    rule += f"{most} of either; none empty, and no lone surrogates, which are no characters"
    return _kind(rule, partial(_check_prompts, most=most), {"oneOf": [_TEXT, _IDS, items]})


PROMPTS = _prompts(MAX_PROMPTS)
INPUTS = _prompts(MAX_INPUTS)
STREAM_OPTIONS = _kind(
    "an object with include_usage, true or false",
    _check_stream_options,
    {"type": "object", "properties": {"include_usage": {"type": ["boolean", "null"]}}},
)
LIMIT = _kind(
    "an integer, 1 <= {name} < 2^31, or -1",
    _check_limit,
    {"anyOf": [{"const": -1}, {"type": "integer", "minimum": 1, "maximum": INT32_MAX}]},
)
DIMENSIONS = _kind("an integer, {name} >= 1", _check_dimensions, VECTOR_SIZE_SCHEMA)
OBJECT = _kind("an object", _check_object, {"type": "object"})
TEXTS = Kind(list[str], "a list of strings")


def looked_at_elsewhere(rule: str, schema: dict[str, Any]) -> Kind:
    """A kind for values that `structure.py` checks, where several fields meet."""
    return _kind(rule, lambda value: value, schema)


_SCHEMA = {
    "type": "object",
    "properties": {"schema": {"type": "object"}, "strict": {"type": ["boolean", "null"]}},
    "required": ["schema"],
}
RESPONSE_FORMAT = looked_at_elsewhere(
    "an object of type text, json_object or json_schema",
    {
        "anyOf": [
            {
                "type": "object",
                "properties": {"type": {"enum": ["text", "json_object"]}},
                "required": ["type"],
            },
            {
                "type": "object",
                "properties": {"type": {"const": "json_schema"}, "json_schema": _SCHEMA},
                "required": ["type", "json_schema"],
            },
        ]
    },
)


def _or_empty(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, or what clients send in place of null."""
    return {"anyOf": [schema, {"enum": ["", [], {}]}]}


_GRAMMAR = {"type": "string", "format": "gbnf", "maxLength": MAX_GRAMMAR_CHARS}
_REGEX = {"type": "string", "format": "regex", "maxLength": MAX_REGEX_CHARS}
_CHOICE = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": MAX_CHOICE_CHARS},
    "maxItems": MAX_CHOICES,
}
_JSON = {"type": "object"}
GRAMMAR = looked_at_elsewhere(RULES["grammar"], _or_empty(_GRAMMAR))
REGEX = looked_at_elsewhere(RULES["regex"], _or_empty(_REGEX))
CHOICE = looked_at_elsewhere(RULES["choice"], _or_empty(_CHOICE))
SCHEMA_OR_TEXT = looked_at_elsewhere("a JSON schema, an object or its JSON", _or_empty(_JSON))
STRUCTURED_OUTPUTS = looked_at_elsewhere(
    "an object with one of json, json_object, regex, choice, grammar",
    _or_empty(
        {
            "type": "object",
            "properties": {
                name: {"anyOf": [schema, {"type": "null"}]}
                for name, schema in {
                    "json": _or_empty(_JSON),
                    "json_object": _or_empty({"type": "boolean"}),
                    "regex": _or_empty(_REGEX),
                    "choice": _or_empty(_CHOICE),
                    "grammar": _or_empty(_GRAMMAR),
                    "disable_fallback": {"type": "boolean"},
                    "disable_any_whitespace": {"const": False},
                    "disable_additional_properties": {"type": "boolean"},
                    "whitespace_pattern": {"const": ""},
                    "structural_tag": {"const": ""},
                }.items()
            },
            "additionalProperties": False,
        }
    ),
)
TOOLS = looked_at_elsewhere(
    "a list of functions",
    {
        "type": "array",
        "maxItems": MAX_TOOLS,
        "items": {
            "type": "object",
            "properties": {
                "type": {"const": "function"},
                "function": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
                        "description": {"type": ["string", "null"]},
                        "parameters": {"type": ["object", "null"]},
                        "strict": {"type": ["boolean", "null"]},
                    },
                    "required": ["name"],
                },
            },
            "required": ["type", "function"],
        },
    },
)
TOOL_CHOICE = looked_at_elsewhere(
    "none, auto, required, or a function",
    # The name of a function must be one of `tools`, which no schema can say.
    {"enum": ["none", "auto", "required"]},
)
NAME = Kind(str, "a string")
