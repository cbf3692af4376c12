"""Objects whose schema names their properties, and says nothing of others, have no others.

JSON Schema lets such an object have any. But whoever sends a schema lists what is wanted, and small models write on
and on where they may; llama-server and vLLM read schemas so, too. What fits the closed schema fits the one that came.

Source: llama.cpp, `common/json-schema-to-grammar.cpp`, `_build_object_rule`; XGrammar's `strict_mode`, vLLM's default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llorch.chat.schema_bounds import target_of

_MAPS = ("properties", "patternProperties", "$defs", "definitions")
"""Keywords whose value holds schemas by name."""
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_SINGLE = ("items", "additionalProperties", "additionalItems", "then", "else")
_SAME = ("allOf", "anyOf", "oneOf")
"""Lists of schemas for the very value that the schema around them is for."""
_OF_OBJECTS = (
    *_MAPS[:2],
    "required",
    "additionalProperties",
    "minProperties",
    "maxProperties",
    "propertyNames",
)
_SAY_MORE = ("additionalProperties", "unevaluatedProperties", "patternProperties")
_CONDITIONS = ("if", "not", "dependentSchemas", "dependencies")


def closed_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a schema in which objects are closed that nothing else says anything of.

    An object that several schemas speak of (in an `allOf`, beside a `$ref` ...) stays as it is: each of them would
    forbid the properties of the others.

    Args:
        schema: within the bounds of `bounds_fault`.
    """
    shared: set[int] = set()
    for one in _schemas(schema):
        if _n_speakers(one) > 1:
            _note_shared(one, schema, shared)
    closed = _copied(schema, shared)
    assert isinstance(closed, dict)
    return closed


def _inner(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas inside of one, as far as they can be closed."""
    for name in _MAPS:
        if isinstance(named := schema.get(name), dict):
            yield from named.values()
    for name in _LISTS:
        if isinstance(listed := schema.get(name), list):
            yield from listed
    yield from (schema[name] for name in _SINGLE if name in schema)


def _schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all inside of it."""
    if isinstance(schema, dict):
        yield schema
        for inner in _inner(schema):
            yield from _schemas(inner)


def _n_speakers(schema: Mapping[str, Any]) -> int:
    """How many schemas speak of the properties of the same object."""
    n_members = len(schema["allOf"]) if isinstance(schema.get("allOf"), list) else 0
    others = ("anyOf", "oneOf", "$ref", *_CONDITIONS)
    return n_members + any(name in schema for name in _OF_OBJECTS) + sum(name in schema for name in others)


def _note_shared(schema: Any, root: Mapping[str, Any], shared: set[int]) -> None:
    """Add to `shared` what speaks of the same object as `schema`, and `schema` itself: by identity."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, dict) or id(one) in shared:
            continue
        shared.add(id(one))
        waiting += [member for name in _SAME if isinstance(one.get(name), list) for member in one[name]]
        waiting += [one.get("then"), one.get("else")]
        if isinstance(reference := one.get("$ref"), str):
            waiting.append(target_of(root, reference))


def _copied(schema: Any, shared: set[int]) -> Any:
    if not isinstance(schema, dict):
        return schema
    copy = dict(schema)
    for name in _MAPS:
        if isinstance(named := schema.get(name), dict):
            copy[name] = {key: _copied(one, shared) for key, one in named.items()}
    for name in {*_LISTS, *_SINGLE} & schema.keys():
        value = schema[name]
        copy[name] = (
            [_copied(one, shared) for one in value] if isinstance(value, list) else _copied(value, shared)
        )
    if id(schema) not in shared and _can_be_closed(schema):
        copy["additionalProperties"] = False
    return copy


def _can_be_closed(schema: Mapping[str, Any]) -> bool:
    """Whether a schema names properties, says nothing of others, and can be satisfied without them."""
    named, required, least = (
        schema.get("properties"),
        schema.get("required", []),
        schema.get("minProperties", 0),
    )
    return (
        isinstance(named, dict)
        and not any(name in schema for name in _SAY_MORE)
        and isinstance(required, list)
        and all(isinstance(name, str) and name in named for name in required)
        and isinstance(least, int)
        and least <= len(named)
    )
