"""What Python callers give, as plain Python values: NumPy's numbers become Python's, sequences become tuples.

A value that is nothing of the kind comes back as it is; whoever checks it says what is wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

_NO_LISTS = (str, bytes, bytearray, memoryview)
"""Sequences of characters and bytes: their items are no token ids and no strings that somebody meant one by one."""


def unchanged(value: object) -> object:
    """`value`."""
    return value


def plain_integer(value: object) -> object:
    """Integers of other types, such as NumPy's, as `int`; no boolean is one."""
    if type(value) is int or isinstance(value, bool) or not isinstance(value, Integral):
        return value
    with contextlib.suppress(TypeError):  # NumPy calls its spans of time integers
        return int(value)
    return value


def plain_number(value: object) -> object:
    """Integers, NumPy's numbers, fractions and decimals as `float`; no boolean is one."""
    if type(value) is float or isinstance(value, bool):
        return value
    if isinstance(value, Real | Decimal):
        with contextlib.suppress(OverflowError, ValueError):  # too large for a float; no number at all
            return float(value)
    return value


def plain_token_ids(value: object) -> object:
    """A sequence, or an array of one dimension, as a tuple in which all integers are `int`."""
    items = _items(value)
    if items is None:
        return value
    return items if set(map(type, items)) <= {int} else tuple(map(plain_integer, items))


def plain_prompt(value: object) -> object:
    """Text stays, token ids become a tuple."""
    return value if isinstance(value, str) else plain_token_ids(value)


def plain_strings(value: object) -> object:
    """A sequence as a tuple; one string stands for a tuple of it, None for none."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    items = _items(value)
    return value if items is None else items


def plain_biases(value: object) -> object:
    """A copy with `int` keys and `float` values, which later changes of the caller's mapping do not reach."""
    if not isinstance(value, Mapping):
        return value
    return {plain_integer(key): plain_number(bias) for key, bias in value.items()}


def _items(value: Any) -> tuple[object, ...] | None:
    """The items of a sequence that is no text; None if it is none."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, Sequence) and not isinstance(value, _NO_LISTS):
        return tuple(value)
    if getattr(value, "ndim", None) == 1 and hasattr(value, "tolist") and not isinstance(value, _NO_LISTS):
        return tuple(value.tolist())  # NumPy's arrays are no `Sequence`
    return None
