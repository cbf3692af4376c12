"""What templates may call on strings, lists, dictionaries and numbers, and what it costs.

Everything else is refused: a list of what is allowed has no gaps that a list of what is dangerous would have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinMethodType
from typing import Any

from llorch.chat.jinja.budget import LimitError, budget, check_bits

MAX_WIDTH = 1000
"""Characters that a text may be padded to, or indented by."""

_STRING_METHODS = """
strip lstrip rstrip split rsplit splitlines partition rpartition startswith endswith removeprefix removesuffix upper
lower title capitalize casefold swapcase replace join find rfind index rindex count isdigit isalpha isalnum isdecimal
isnumeric isspace isupper islower istitle isascii isidentifier center ljust rjust zfill expandtabs format
"""

_ALLOWED: dict[type, frozenset[str]] = {
    str: frozenset(_STRING_METHODS.split()),
    list: frozenset({"index", "count", "copy"}),
    tuple: frozenset({"index", "count"}),
    dict: frozenset({"get", "items", "keys", "values", "copy"}),
    int: frozenset({"bit_length"}),
    float: frozenset({"is_integer"}),
}

_PRINTF_FIELD = re.compile(r"%(?:\([^)%]{0,100}\))?[#0 +-]*\d{0,3}(?:\.\d{0,3})?[sdifgeGErxX%]|[^%]+")
_PLAIN_FIELD = re.compile(r"\{\{|\}\}|\{\w*(?::[<>^]?0?\d{0,3},?(?:\.\d{1,3})?[dfgesx]?)?\}|[^{}]+")


class StringFormat:
    """`str.format` of one string, for fields without attributes and of small widths."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        """The text with its fields filled in.

        Raises:
            LimitError: a field does more than name a value.
        """
        budget().charge(len(self._text))
        if "".join(_PLAIN_FIELD.findall(self._text)) != self._text:
            raise LimitError("format: fields like {}, {name} and {name:5.2f} are possible, no others")
        values = budget().size(list(args)) + budget().size(kwargs)
        budget().charge_text(len(self._text) + self._text.count("{") * (MAX_WIDTH + values))
        return self._text.format(*args, **kwargs)


def is_allowed_method(value: object) -> bool:
    """Whether `value` is a method that templates may call."""
    owner, name = getattr(value, "__self__", None), getattr(value, "__name__", "")
    return isinstance(value, BuiltinMethodType) and name in _ALLOWED.get(type(owner), ())


def call_method(method: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call an allowed method, once its result is known to be of a size that can be paid for.

    Raises:
        LimitError: it is not.
    """
    owner: Any = method.__self__  # type: ignore[attr-defined]
    name = method.__name__
    if isinstance(owner, str):
        budget().charge(len(owner) // 16)
        if name == "replace":
            return replaced(owner, *args, **kwargs)
        if name == "join":
            return joined(owner, *args)
        if name in ("center", "ljust", "rjust", "zfill"):
            check_width(args[0] if args else 0)
            budget().charge_text(len(owner) + MAX_WIDTH)
        elif name == "expandtabs":
            check_width(next(iter([*args, *kwargs.values()]), 8))
            budget().charge_text(len(owner) + MAX_WIDTH * owner.count("\t"))
        elif name not in ("startswith", "endswith"):
            budget().charge(len(owner))
    elif isinstance(owner, list | tuple):
        budget().charge(budget().size(owner) // 4)
    result = method(*args, **kwargs)
    return list(result) if isinstance(owner, dict) and name in ("items", "keys", "values") else result


def replaced(text: str, old: str, new: str, count: int | None = -1) -> str:
    """`str.replace`."""
    n = text.count(old)
    if count is not None and count >= 0:
        n = min(n, count)
    budget().charge_text(len(text) + n * max(0, len(new) - len(old)))
    return text.replace(old, new, -1 if count is None else count)


def joined(separator: str, items: Any) -> str:
    """`str.join`, of anything as text."""
    texts = [as_text(item) for item in items]
    budget().charge(len(texts))
    budget().charge_text(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def as_text(value: object) -> str:
    """`str`, once its size is paid for."""
    if type(value) is str:
        return value
    budget().charge_text(budget().size(value))
    return str(value)


def check_width(width: object) -> None:
    """Refuse to pad to more than `MAX_WIDTH` characters.

    Raises:
        LimitError: that is asked for.
    """
    if isinstance(width, int) and abs(width) > MAX_WIDTH:
        raise LimitError(f"texts may be padded to {MAX_WIDTH} characters, not to more")


def printf(text: str, values: Any) -> str:
    """``text % values``.

    Raises:
        LimitError: a field is of no known kind, or too wide.
    """
    budget().charge(len(text))
    if "".join(_PRINTF_FIELD.findall(text)) != text:
        raise LimitError("%: fields like %s, %d and %5.2f are possible, no others")
    n_fields = text.count("%")
    budget().charge_text(len(text) + n_fields * (budget().size(values) + MAX_WIDTH))
    filled: str = text % values
    return filled


def add(left: Any, right: Any) -> Any:
    """``left + right``."""
    if isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
        budget().charge_text(len(left) + len(right))
    return left + right


def multiply(left: Any, right: Any) -> Any:
    """``left * right``."""
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(times, int):
            budget().charge_text(len(sequence) * max(0, times))
    if isinstance(left, int) and isinstance(right, int):
        check_bits(left.bit_length() + right.bit_length())
    return left * right


def power(left: Any, right: Any) -> Any:
    """``left ** right``."""
    if isinstance(left, int) and isinstance(right, int):
        check_bits(left.bit_length() * abs(right))
    return left**right


def remainder(left: Any, right: Any) -> Any:
    """``left % right``, which for strings fills in fields."""
    return printf(left, right) if isinstance(left, str) else left % right
