"""Fields that bind an answer to JSON, a schema, a grammar, an expression or a list, as OpenAI and others call them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llorch.chat.schema_bounds import bounds_fault
from llorch.chat.text_rule import RULES, TextRule
from llorch.errors import FieldError
from llorch.fields.kinds import described

MAX_SCHEMA_TEXT = 1 << 20
"""Characters of a schema that is spelt as a text."""


@dataclass(frozen=True, slots=True)
class Document:
    """The JSON that an answer shall be.

    Attributes:
        schema: what it satisfies.
        field: name of the field that holds the schema, for errors.
        is_strict: refuse keywords of the schema that no grammar can enforce, instead of ignoring them.
    """

    schema: Any
    field: str
    is_strict: bool = False


Constraint = Document | TextRule
_Read = Callable[[str, Any, list[FieldError]], Constraint | None]


def parse_constraint(body: Mapping[str, Any], faults: list[FieldError]) -> Constraint | None:
    """What binds the answer to a request; what is wrong with that is appended to `faults`.

    Null, and empty values except of `response_format`, bind nothing. Two constraints are a fault that names both.
    """
    found: dict[str, Constraint] = {}
    for name, read in _READERS.items():
        value = body.get(name)
        if value is None or (value in _EMPTY and name != "response_format"):
            continue
        constraint = read(name, value, faults)
        if constraint is not None:
            found[name] = constraint
    if len(found) > 1:
        message = f"{' and '.join(found)}: a request takes one of them"
        faults.append(FieldError([*found][1], "one constraint", message))
    return next(iter(found.values()), None)


_EMPTY: tuple[object, ...] = ("", [], {})
"""What clients send in place of null."""


def _document(schema: Any, field: str, faults: list[FieldError], *, is_strict: bool = False) -> Document:
    if fault := bounds_fault(schema):
        message = f"{field}: cannot be enforced: {fault}"
        faults.append(FieldError(field, "a schema of a bounded size", message))
    return Document(schema, field, is_strict)


def _response_format(name: str, value: Any, faults: list[FieldError]) -> Document | None:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        schema = value.get("schema")  # llama-server's
        if schema is None:
            return Document({"type": "object"}, name)
        return _document(schema, f"{name}.schema", faults)
    if kind == "json_schema":
        return _named_schema(name, value, faults)
    rule = "an object of type text, json_object or json_schema"
    faults.append(FieldError(name, rule, f"{name}: expected {rule}"))
    return None


def _named_schema(name: str, value: Mapping[str, Any], faults: list[FieldError]) -> Document | None:
    inner = value.get("json_schema")
    if inner is None and value.get("schema") is not None:  # llama-server's
        return _document(value["schema"], f"{name}.schema", faults)
    name = f"{name}.json_schema"
    if not isinstance(inner, dict):
        faults.append(
            FieldError(name, "an object with a schema", f"{name}: expected an object with a schema")
        )
        return None
    strict, schema = inner.get("strict"), inner.get("schema")
    if not isinstance(strict, bool | None):
        faults.append(FieldError(f"{name}.strict", "true or false", f"{name}.strict: expected true or false"))
    if not isinstance(schema, dict):
        rule = "a JSON schema, an object"
        faults.append(FieldError(f"{name}.schema", rule, f"{name}.schema: expected {rule}"))
        return None
    return _document(schema, f"{name}.schema", faults, is_strict=strict is True)


def _schema(name: str, value: Any, faults: list[FieldError]) -> Document:
    return _document(value, name, faults)


def _schema_or_text(name: str, value: Any, faults: list[FieldError]) -> Document | None:
    """A schema, as an object or as its JSON."""
    if isinstance(value, str):
        value = _parsed(value)
    if not isinstance(value, dict):
        rule = "a JSON schema, an object or its JSON"
        faults.append(FieldError(name, rule, f"{name}: expected {rule}"))
        return None
    return _document(value, name, faults)


def _parsed(text: str) -> Any:
    """The value of a JSON text; None if it is none."""
    if len(text) > MAX_SCHEMA_TEXT:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text_rule(kind: Literal["grammar", "regex", "choice"]) -> _Read:
    def read(name: str, value: Any, faults: list[FieldError]) -> TextRule | None:
        rule = TextRule(kind, value, name)
        if rule.is_valid:
            return rule
        words = RULES[kind]
        faults.append(FieldError(name, words, f"{name}: expected {words}; got {described(value)}"))
        return None

    return read


def _any_object(name: str, value: Any, faults: list[FieldError]) -> Document | None:
    if not isinstance(value, bool):
        faults.append(FieldError(name, "true or false", f"{name}: expected true or false"))
    return Document({"type": "object"}, name) if value is True else None


def _structured_outputs(name: str, value: Any, faults: list[FieldError]) -> Constraint | None:
    """vLLM's object: at most one of its names binds, and its options may only have values that change nothing."""
    rule = f"an object with one of {', '.join(STRUCTURED)}"
    if not isinstance(value, dict):
        faults.append(FieldError(name, rule, f"{name}: expected {rule}"))
        return None
    odd = next((key for key in value if not _is_known(key, value[key])), None)
    if odd is not None:
        shown = f"{name}.{odd[:64]}".encode(
            "utf-8", "backslashreplace"
        ).decode()  # JSON can spell lone surrogates
        faults.append(FieldError(shown, rule, f"{shown}: this server does not have it; expected {rule}"))
        return None
    found: dict[str, Constraint] = {}
    for key, read in STRUCTURED.items():
        inner = value.get(key)
        if inner is None or inner in _EMPTY:
            continue
        constraint = read(f"{name}.{key}", inner, faults)
        if constraint is not None:
            found[f"{name}.{key}"] = constraint
    if len(found) > 1:
        message = f"{' and '.join(found)}: a request takes one of them"
        faults.append(FieldError(name, "one constraint", message))
    return next(iter(found.values()), None)


def _is_known(key: str, value: Any) -> bool:
    harmless = OPTIONS.get(key, ())
    is_harmless = value is None or any(type(value) is type(one) and value == one for one in harmless)
    return key in STRUCTURED or (key in OPTIONS and is_harmless)


STRUCTURED: Mapping[str, _Read] = {
    "json": _schema_or_text,
    "json_object": _any_object,
    "regex": _text_rule("regex"),
    "choice": _text_rule("choice"),
    "grammar": _text_rule("grammar"),
}
"""Constraints in vLLM's `structured_outputs`."""
OPTIONS: Mapping[str, tuple[object, ...]] = {
    "disable_fallback": (False, True),
    "disable_any_whitespace": (False,),
    "disable_additional_properties": (False, True),
    "whitespace_pattern": ("",),
    "structural_tag": ("",),
}
"""Its other names, with the values that change nothing here."""

_READERS: Mapping[str, _Read] = {
    "response_format": _response_format,
    "json_schema": _schema,
    "grammar": _text_rule("grammar"),
    "structured_outputs": _structured_outputs,
    "guided_json": _schema_or_text,
    "guided_regex": _text_rule("regex"),
    "guided_choice": _text_rule("choice"),
    "guided_grammar": _text_rule("grammar"),
}
CONSTRAINTS = tuple(_READERS)
"""Names of the fields that bind an answer."""
