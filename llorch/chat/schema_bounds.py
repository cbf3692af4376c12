"""Bounds on JSON schemas from strangers, checked before a compiler sees them.

The compiler of grammars limits its own work, but it recurses along nesting and references: a chain of a thousand
objects would overflow the stack, which ends the process. Long literals make single steps slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 48
"""Levels of objects and arrays; the parser of the compiler takes 128."""
MAX_VALUES = 20_000
"""Objects, arrays, strings and numbers, together."""
MAX_NAMES = 400
"""Names in one object: beside 500 optional properties, the compiled grammar gives up at the first of them."""
MAX_TEXT = 4_000
"""Characters of one string: a literal of 60,000 takes 0.3 s at one step."""
MAX_TOTAL_TEXT = 200_000
"""Characters of all strings and names together."""
MAX_REFERENCE_PATH = 1_000
"""Levels of everything that references lead to, together: no path is longer. 2,400 fit a stack of 8 MB."""

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


@dataclass(frozen=True, slots=True)
class _Place:
    """A value in a schema.

    Attributes:
        value: the value.
        name: its name, in an object.
        parent: index of the place that contains it; -1 for the whole schema.
        depth: levels above it.
    """

    value: Any
    name: str | None
    parent: int
    depth: int


def bounds_fault(schema: Any) -> str | None:
    """What of a JSON value is too much for a schema; None if nothing is."""
    places = [_Place(schema, None, -1, 0)]
    n_chars = 0
    for index, place in enumerate(places):  # grows meanwhile
        if place.depth > MAX_DEPTH:
            return f"more than {MAX_DEPTH} levels of nesting"
        if isinstance(place.value, dict):
            if len(place.value) > MAX_NAMES:
                return f"more than {MAX_NAMES} names in one object"
            places += [_Place(item, key, index, place.depth + 1) for key, item in place.value.items()]
        elif isinstance(place.value, list):
            places += [_Place(item, None, index, place.depth + 1) for item in place.value]
        if len(places) > MAX_VALUES:
            return f"more than {MAX_VALUES} values"
        for text in (place.name, place.value):
            if isinstance(text, str):
                n_chars += len(text)
                if fault := _text_fault(text):
                    return fault
        if n_chars > MAX_TOTAL_TEXT:
            return f"more than {MAX_TOTAL_TEXT} characters in all strings together"
    return _reference_fault(places)


def _text_fault(text: str) -> str | None:
    if len(text) > MAX_TEXT:
        return f"more than {MAX_TEXT} characters in one string"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "a string that is not valid Unicode"
    return None


def _reference_fault(places: list[_Place]) -> str | None:
    heights = [1] * len(places)
    for index in range(len(places) - 1, 0, -1):  # what is inside comes behind what contains it
        parent = places[index].parent
        heights[parent] = max(heights[parent], heights[index] + 1)
    height_of = {id(place.value): height for place, height in zip(places, heights, strict=True)}
    references = {
        place.value for place in places if place.name in _REFERENCES and isinstance(place.value, str)
    }
    schema = places[0].value
    levels = sum(height_of.get(id(target_of(schema, reference)), heights[0]) for reference in references)
    if levels > MAX_REFERENCE_PATH:
        return f"references that lead through more than {MAX_REFERENCE_PATH} levels"
    return None


def target_of(schema: Any, reference: str) -> Any:
    """What a plain pointer to a definition names; None for any other reference."""
    target = schema
    for part in reference.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, dict) or key not in target:
            return None
        target = target[key]
    return target
