"""What a whole answer shall be, as Python callers say it: a schema, a grammar, a regular expression, a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from llorch.chat.grammar import Grammars
from llorch.chat.text_rule import RULES, TextRule
from llorch.engine.constraint import Constraint
from llorch.errors import FieldError, RequestError
from llorch.fields.kinds import described

TextKind = Literal["grammar", "regex", "choice"]
NAMES = ("json_schema", *get_args(TextKind))
"""The arguments that bind an answer; a call has one of them."""


def constraint_of(
    rules: Mapping[str, Any], grammars: Callable[[], Grammars]
) -> Callable[[], Constraint] | None:
    """What binds an answer; None where nothing is asked for.

    Args:
        rules: by name, one of `NAMES`; None is not given.
        grammars: those of the model's vocabulary, made when they are first needed.

    Raises:
        RequestError: two are given, one is wrong or cannot be enforced, or llguidance is not installed.
    """
    given = {name: value for name, value in rules.items() if value is not None}
    if len(given) > 1:
        rule, names = f"one of {', '.join(NAMES)}", list(given)
        raise RequestError([FieldError(names[0], rule, f"{' and '.join(names)} exclude each other")])
    for name, value in given.items():
        if name == "json_schema":
            return grammars().json_schema(value, field=name)
        return _text_rule(name, value).constraint(grammars())
    return None


def _text_rule(name: str, value: object) -> TextRule:
    kind: TextKind = name  # type: ignore[assignment]
    rule = TextRule(kind, list(value) if isinstance(value, tuple) else value, name)
    if not rule.is_valid:
        message = f"{name}: expected {RULES[kind]}; got {described(value)}"
        raise RequestError([FieldError(name, RULES[kind], message)])
    return rule
