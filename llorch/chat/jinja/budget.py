"""What a running template may still use: work, processor time, and how large a value may get.

A thread cannot be stopped from outside, so everything a template can do pays here, before it is done: each turn of a
loop and each call a fixed price, each string and container its size. A value's size is what it would have as text:
containers that hold the same thing many times count it many times, so none can grow exponentially in secret.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MAX_CHARS = 4 << 20
"""Characters of the output, and of any value on the way."""

MAX_NESTING = 64
"""Containers inside containers."""

MAX_CALLS = 64
"""Calls inside calls."""

STEP = 64
"""Price of a turn of a loop or a filter; a call costs four."""

_CHARS_A_UNIT = 4
"""Characters made for one unit; templates that add to a text in a loop make it many times."""

_CONTAINER, _ITEM = 64, 16
"""Prices of a container and of an item in it: they take more memory than a character."""

_MAX_NUMBER_BITS = 1 << 14
"""As many as the longest number that Python reads from JSON."""

_WORK = 64 << 20
_CPU_S = 2.0
_UNITS_BETWEEN_CLOCKS = 1 << 16


class LimitError(Exception):
    """A template does too much."""


class Budget:
    """What one rendering may still use; belongs to one thread."""

    def __init__(self) -> None:
        """All of it is left."""
        self._work = _WORK
        self._next_clock = _WORK - _UNITS_BETWEEN_CLOCKS
        self._end_s = time.thread_time() + _CPU_S
        self._calls = 0
        self._sizes: dict[int, tuple[object, int, int]] = {}

    def charge(self, units: int) -> None:
        """Pay for work of `units`.

        Raises:
            LimitError: so much is not left.
        """
        self._work -= units
        if self._work < 0:
            raise LimitError("it takes more steps than a template may")
        if self._work < self._next_clock:
            self._next_clock = self._work - _UNITS_BETWEEN_CLOCKS
            if time.thread_time() > self._end_s:
                raise LimitError(f"it takes more than {_CPU_S:g} s")

    def size(self, value: object) -> int:
        """Characters of `value` as text, roughly; found out once for each container.

        Raises:
            LimitError: it is larger, or nested deeper, than a value may be.
        """
        return self._measured(value, MAX_NESTING)[0]

    def charge_text(self, n_chars: int) -> None:
        """Pay for a text of `n_chars` that is about to be made.

        Raises:
            LimitError: it is longer than a text may be, or so much is not left.
        """
        if n_chars > MAX_CHARS:
            raise LimitError(f"it makes a text of more than {MAX_CHARS} characters")
        self.charge(n_chars // _CHARS_A_UNIT)

    def listed(self, items: Iterator[object]) -> list[object]:
        """Everything that `items` give, paid for one by one.

        Raises:
            LimitError: they are too many.
        """
        listed = []
        for item in items:
            self.charge(_CONTAINER)
            listed.append(item)
        self.size(listed)
        return listed

    @contextmanager
    def call(self) -> Iterator[None]:
        """Pay for a call, which may call others.

        Raises:
            LimitError: too many calls are inside one another.
        """
        self.charge(4 * STEP)
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise LimitError(f"more than {MAX_CALLS} calls are inside one another")
        try:
            yield
        finally:
            self._calls -= 1

    def _measured(self, value: object, n_levels: int) -> tuple[int, int]:
        """Size, and levels of containers. A measured container is kept, so that its `id` stays its own."""
        if isinstance(value, str):
            return len(value) + 2, 0
        if not isinstance(value, list | tuple | dict):
            if isinstance(value, int):
                check_bits(value.bit_length())
            return 8 * (1 + len(value)) if isinstance(value, range) else 8, 0
        if known := self._sizes.get(id(value)):
            if known[2] > n_levels:
                raise LimitError(f"a value has more than {MAX_NESTING} containers inside one another")
            return known[1], known[2]
        if n_levels == 0:
            raise LimitError(f"a value has more than {MAX_NESTING} containers inside one another")
        self.charge(_CONTAINER + _ITEM * len(value))
        size, levels = 2, 1
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        for item in items:
            item_size, item_levels = self._measured(item, n_levels - 1)
            size += item_size + 2
            levels = max(levels, item_levels + 1)
        if size > MAX_CHARS:
            raise LimitError(f"it makes a value of more than {MAX_CHARS} characters")
        self._sizes[id(value)] = (value, size, levels)
        return size, levels


def check_bits(n_bits: int) -> None:
    """Refuse a number of so many bits.

    Raises:
        LimitError: they are too many.
    """
    if n_bits > _MAX_NUMBER_BITS:
        raise LimitError("it makes a number of too many digits")


_CURRENT: ContextVar[Budget] = ContextVar("budget")


def budget() -> Budget:
    """That of the rendering under way."""
    return _CURRENT.get()


@contextmanager
def new_budget() -> Iterator[Budget]:
    """A fresh one for the rendering inside this block."""
    token = _CURRENT.set(Budget())
    try:
        yield _CURRENT.get()
    finally:
        _CURRENT.reset(token)
