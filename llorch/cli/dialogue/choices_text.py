"""How answers are chosen, as text: ``/set temperature 0.5``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llorch.cli.dialogue.answering import Choices
from llorch.errors import InputError, shown
from llorch.fields.table import FIELDS, REQUEST, SETTINGS, suggest

LIMIT = "n_predict"
NAMES = (*(name for name in SETTINGS if name in REQUEST), "seed", LIMIT)
"""What can be set."""
DEFAULT = "default"


def with_choice(choices: Choices, name: str, text: str, first: Choices) -> Choices:
    """`choices` with another value.

    Args:
        choices: as they are.
        name: one of `NAMES`.
        text: the value, or ``"default"`` for that of `first`.
        first: as they were at the start.

    Raises:
        InputError: there is no such name, or the value is out of range.
    """
    if name not in NAMES:
        meant = suggest(name, NAMES)
        raise InputError(f"{shown(name)} cannot be set; " + (f"did you mean {meant}?" if meant else _known()))
    if name == LIMIT:
        limit = first.max_tokens if text == DEFAULT else _value(name, text)
        return replace(choices, max_tokens=None if limit == -1 else limit)
    value = getattr(first.params, name) if text == DEFAULT else _value(name, text)
    changed: dict[str, Any] = {name: value}
    return replace(choices, params=replace(choices.params, **changed))


def choices_lines(choices: Choices) -> list[str]:
    """Every choice with its value."""
    values = {name: getattr(choices.params, name) for name in NAMES if name != LIMIT}
    values["seed"] = "another each time" if values["seed"] is None else values["seed"]
    values[LIMIT] = "as many as the context holds" if choices.max_tokens is None else choices.max_tokens
    return [f"{name} = {value}" for name, value in values.items()]


def _value(name: str, text: str) -> Any:
    field = FIELDS[name]
    try:
        value = field.kind.type(text)
    except ValueError:
        value = None
    if value is None or field.faults(value):
        raise InputError(f"{name}: expected {field.rule}; got {shown(text)}")
    return value


def _known() -> str:
    return f"what can be: {', '.join(NAMES)}"
