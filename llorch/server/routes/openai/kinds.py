"""Kinds of values that only OpenAI's fields have: prompts in four spellings, options of streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

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
from llorch.fields.kinds import MAX_TOKEN_ID, Kind, described
from llorch.fields.token_kinds import TOKEN_ID_SCHEMA

INT32_MAX = 2**31 - 1
MAX_PROMPTS = 64
"""Prompts of one request; each needs a place in line."""

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


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def prompt_list(value: object) -> list[str | list[int]]:
    """The prompts that a field `prompt` of a valid value spells."""
    return value if isinstance(value, list) and not is_token_ids(value) else [value]  # type: ignore[list-item]


def _check_prompts(value: object) -> object:
    if _is_text(value) or is_token_ids(value):
        return value
    if not isinstance(value, list) or not value:
        raise _bad(f"got {described(value)}")
    if not any(isinstance(item, str | list) for item in value):
        raise _bad(f"got a list of {len(value)} that are no token ids")
    if len(value) > MAX_PROMPTS:
        raise _bad(f"got {len(value)} prompts")
    for i, item in enumerate(value):
        if not (_is_text(item) or is_token_ids(item)):
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


def _check_object(value: object) -> object:
    if not isinstance(value, dict):
        raise _bad(f"got {described(value)}")
    return value


def _bad(message: str) -> Exception:
    return PydanticCustomError("bad_items", message)


def _kind(rule: str, check: Any, schema: dict[str, Any]) -> Kind:
    return Kind(Annotated[Any, BeforeValidator(check), WithJsonSchema(schema)], rule)


PROMPTS = _kind(
    "text, token ids, or a list of up to "
    f"{MAX_PROMPTS} of either; none empty, and no lone surrogates, which are no characters",
    _check_prompts,
    {
        "oneOf": [
            _TEXT,
            _IDS,
            {"type": "array", "items": {"anyOf": [_TEXT, _IDS]}, "minItems": 1, "maxItems": MAX_PROMPTS},
        ]
    },
)
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
OBJECT = _kind("an object", _check_object, {"type": "object"})


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
_GRAMMAR = {"type": "string", "format": "gbnf", "maxLength": MAX_GRAMMAR_CHARS}
_REGEX = {"type": "string", "format": "regex", "maxLength": MAX_REGEX_CHARS}
_CHOICE = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": MAX_CHOICE_CHARS},
    "maxItems": MAX_CHOICES,
}
_JSON = {"anyOf": [{"type": "object"}, {"const": ""}]}
GRAMMAR = looked_at_elsewhere(RULES["grammar"], _GRAMMAR)
REGEX = looked_at_elsewhere(RULES["regex"], _REGEX)
CHOICE = looked_at_elsewhere(RULES["choice"], _CHOICE)
SCHEMA_OR_TEXT = looked_at_elsewhere("a JSON schema, an object or its JSON", _JSON)
STRUCTURED_OUTPUTS = looked_at_elsewhere(
    "an object with one of json, json_object, regex, choice, grammar",
    {
        "type": "object",
        "properties": {
            name: {"anyOf": [schema, {"type": "null"}]}
            for name, schema in {
                "json": _JSON,
                "json_object": {"type": "boolean"},
                "regex": _REGEX,
                "choice": _CHOICE,
                "grammar": _GRAMMAR,
                "disable_fallback": {"type": "boolean"},
                "disable_any_whitespace": {"const": False},
                "disable_additional_properties": {"type": "boolean"},
                "whitespace_pattern": {"const": ""},
                "structural_tag": {"const": ""},
            }.items()
        },
        "additionalProperties": False,
    },
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
