"""What values a field takes: a type with limits, and the rule in words. pydantic checks it, but only when asked.

pydantic is imported on first use, because the command line reads the table for `--help` too. No message repeats a
text: it may be a prompt or a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from llorch.errors import shown
from llorch.fields.hosts import host_list
from llorch.fields.origins import origin_list
from llorch.fields.plain import (
    plain_integer,
    plain_number,
    plain_strings,
    unchanged,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_TOKEN_ID = 2**31 - 1


@dataclass(frozen=True)
class Kind:
    """What values a field takes.

    Attributes:
        type: a Python type; or a function that makes one, where that needs pydantic.
        rule: in words, ``{name}`` standing for the field.
        limits: of values of `type`, as keywords of `pydantic.Field`.
        plain: makes a plain Python value of what a Python caller gave.
        gaps: values within `limits` that are none.
    """

    type: Any
    rule: str
    limits: Mapping[str, Any] = field(default_factory=dict)
    plain: Callable[[object], object] = unchanged
    gaps: tuple[int, ...] = ()

    @property
    def choices(self) -> tuple[str, ...]:
        """The words there are to choose from; none where the kind is no choice."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """pydantic's check: strict, without NaN and infinities."""
        from pydantic import ConfigDict, Field, TypeAdapter

        made = self.type() if isinstance(self.type, FunctionType) else self.type
        annotated: Any = Annotated[made, Field(**self.limits)]
        return TypeAdapter(annotated, config=ConfigDict(strict=True, allow_inf_nan=False))

    def faults(self, value: object) -> list[tuple[int | None, str]]:
        """Everything in `value` that breaks the rule: the index of a list's item to blame, and what came instead."""
        from pydantic import ValidationError

        if self.type is float and not isinstance(value, int | float):
            return [(None, f"got {described(value)}")]  # pydantic would ask any object for its `__float__`
        try:
            self.adapter.validate_python(value)
        except ValidationError as error:
            return [_fault(dict(fault)) for fault in error.errors(include_url=False)]
        return [(None, f"got {described(value)}")] if self.gaps and value in self.gaps else []


def integer(low: int, high: int | None = None) -> Kind:
    """Integers from `low` to `high`, both included."""
    limits = {"ge": low} | ({} if high is None else {"le": high})
    return Kind(int, f"an integer, {_range(low, high)}", limits, plain_integer)


def positive_or_all() -> Kind:
    """Integers from 1, and -1, which stands for as many as there can be."""
    return Kind(int, "an integer, {name} >= 1, or -1", {"ge": -1}, plain_integer, gaps=(0,))


def number(low: float, high: float, *, excludes_low: bool = False) -> Kind:
    """Finite numbers from `low` (included, unless `excludes_low`) to `high` (included)."""
    sign = "<" if excludes_low else "<="
    limits = {"gt" if excludes_low else "ge": low, "le": high}
    return Kind(float, f"a number, {_range(low, high, sign)}", limits, plain_number)


def choice(*words: str) -> Kind:
    """One of `words`."""
    *first, last = (f'"{word}"' for word in words)
    return Kind(Literal[words], f"{', '.join(first)} or {last}")


def text(rule: str = "a string that is not empty", pattern: str | None = None) -> Kind:
    """Strings of at least one character that fit `pattern`, a regular expression from ``^`` to ``$``."""
    return Kind(str, rule, {"min_length": 1} | ({} if pattern is None else {"pattern": pattern}))


def path() -> Kind:
    """Names of files; unlike texts they may hold bytes that are no UTF-8, which Python spells as lone surrogates."""
    return Kind(_make_path, "a path")


def _make_path() -> Any:
    from pydantic import PlainValidator

    return Annotated[str, PlainValidator(check_path)]


def check_path(value: object) -> str:
    """`value`, if a file can be called so.

    Raises:
        ValueError: it is no string, or empty, or holds a NUL character.
    """
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path is a string that is not empty")
    return value


def strings(max_strings: int, max_chars: int) -> Kind:
    """A list of strings, or one string alone."""

    def make() -> Any:
        from pydantic import BeforeValidator, Field, WithJsonSchema

        one = Annotated[str, Field(min_length=1, max_length=max_chars)]
        schema = {"type": "string", "minLength": 1, "maxLength": max_chars}
        several = {"type": "array", "items": schema, "maxItems": max_strings}
        return Annotated[
            list[one],
            BeforeValidator(_as_list),
            BeforeValidator(at_most(max_strings)),
            WithJsonSchema({"anyOf": [schema, several]}),
        ]

    rule = f"at most {max_strings} strings, each 1 <= characters <= {max_chars}"
    return Kind(make, rule, plain=plain_strings)


def hosts() -> Kind:
    """Names and addresses of hosts."""
    return _list_by(host_list, "host names and addresses without ports: a list, or one string with commas")


def origins() -> Kind:
    """Origins of web pages."""
    return _list_by(
        origin_list, 'origins such as "https://chat.example", or "*": a list, or one string with commas'
    )


def _list_by(read: Callable[[object], tuple[str, ...]], rule: str) -> Kind:
    def make() -> Any:
        from pydantic import BeforeValidator

        return Annotated[tuple[str, ...], BeforeValidator(read)]

    return Kind(make, rule)


BOOLEAN = Kind(bool, "true or false")


def described(value: object) -> str:
    """`value` in a message: numbers as they are, of everything else the size or the type."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return shown(value)
    if isinstance(value, str):
        return f"a string of {len(value)} characters"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, Mapping) else f"a value of type {type(value).__name__}"


def _range(low: float, high: float | None, low_sign: str = "<=") -> str:
    """``{name} >= 1``, ``0 <= {name} <= 2``, ``0 <= {name} < 2^31``."""
    if high is None:
        return f"{{name}} >= {low}"
    is_power = isinstance(high, int) and high >= MAX_TOKEN_ID and not high & (high + 1)
    return f"{low} {low_sign} {{name}} " + (f"< 2^{int(high).bit_length()}" if is_power else f"<= {high}")


def _fault(fault: Mapping[str, Any]) -> tuple[int | None, str]:
    """One of pydantic's errors: index of the item to blame, and what came instead of a good value."""
    where = fault["loc"][0] if fault["loc"] else None
    got = str(fault["msg"]) if fault["type"] == "bad_items" else f"got {described(fault['input'])}"
    if fault["type"] == "string_unicode":
        got += " with a lone surrogate, which is no character"
    return (where if isinstance(where, int) else None), got


def bad_items(message: str) -> Exception:
    """What a validator raises whose message is `message`, as it is."""
    from pydantic_core import PydanticCustomError

    return PydanticCustomError("bad_items", message)


def _as_list(value: object) -> object:
    """One string may stand without brackets, and Python callers have tuples."""
    return [value] if isinstance(value, str) else list(value) if isinstance(value, tuple) else value


def at_most(n: int) -> Callable[[object], object]:
    """Refuse a long list or object before its items are looked at."""

    def check(value: object) -> object:
        if isinstance(value, list | tuple | dict) and len(value) > n:
            raise bad_items(f"got {len(value)} items")
        return value

    return check
