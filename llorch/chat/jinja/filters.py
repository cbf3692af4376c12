"""Filters and tests that templates may use; each pays before it works.

Source: `jinja2.filters` does the work of most; `tojson` is that of transformers' templates.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import filters, pass_environment, pass_eval_context
from jinja2.runtime import Undefined
from jinja2.tests import TESTS as JINJA_TESTS

from llorch.chat.jinja.budget import STEP, LimitError, budget
from llorch.chat.jinja.methods import as_text, check_width, joined, printf, replaced

_CHEAP = ("abs", "attr", "count", "d", "default", "first", "items", "last", "length")
"""Filters of Jinja that look at no more than one item."""

_LINEAR = ("float", "int", "list", "map", "reject", "rejectattr", "reverse", "select", "selectattr")
"""Filters of Jinja that look at each item once."""

_THOROUGH = (
    "capitalize", "dictsort", "groupby", "lower", "max", "min", "title", "trim", "unique", "upper", "wordcount",
)  # fmt: skip
"""Filters of Jinja that look at every character; their results are no larger than what they are given."""

_MAX_JSON_INDENT = 16


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """`value`, also a lazy one, as JSON; unlike Jinja's own filter it leaves ``<``, ``>`` and ``&`` as they are."""
    if isinstance(value, Iterator):
        value = list(value)
    width = len(indent) if isinstance(indent, str) else indent or 0
    if not 0 <= width <= _MAX_JSON_INDENT or len(as_text(separators)) > 100:
        raise LimitError(f"tojson: indent is at most {_MAX_JSON_INDENT}")
    budget().charge_text(budget().size(value) * (1 + width))
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@pass_eval_context
def _join(eval_ctx: Any, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = map(filters.make_attrgetter(eval_ctx.environment, attribute), value)
    return joined(as_text(d), value)


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    return replaced(as_text(value), as_text(old), as_text(new), count)


def _indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    value = as_text(value)
    check_width(width if isinstance(width, int) else len(width))
    n_width = width if isinstance(width, int) else len(width)
    budget().charge_text(len(value) + (len(value.splitlines()) + 1) * max(0, n_width))
    return filters.do_indent(value, width, first, blank)


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    return printf(as_text(value), kwargs or args)


def _center(value: Any, width: int = 80) -> str:
    check_width(width)
    return as_text(value).center(width)


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    if not isinstance(precision, int) or abs(precision) > 100:
        raise LimitError("round: the precision is at most 100")
    return filters.do_round(value, precision, method)  # type: ignore[arg-type]


@pass_environment
def _sum(environment: Any, iterable: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    if attribute is not None:
        iterable = map(filters.make_attrgetter(environment, attribute), iterable)
    items = list(iterable)
    if not all(isinstance(item, int | float | Undefined) for item in [start, *items]):
        raise LimitError("sum: only numbers can be added")
    return sum(items, start)


def _batch(value: Any, linecount: int, fill_with: Any = None) -> Iterator[list[Any]]:
    check_width(linecount)
    return filters.do_batch(value, linecount, fill_with)


def _slice(value: Any, slices: int, fill_with: Any = None) -> Iterator[list[Any]]:
    check_width(slices)
    return filters.sync_do_slice(value, slices, fill_with)


_OWN_FILTERS: dict[str, Callable[..., Any]] = {
    "tojson": tojson, "string": as_text, "safe": as_text, "join": _join, "replace": _replace, "indent": _indent,
    "format": _format, "center": _center, "round": _round, "sum": _sum, "batch": _batch, "slice": _slice,
}  # fmt: skip


def _free(value: object) -> int:
    return 0


def _n_items(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict) else 0


def _n_chars(value: object) -> int:
    return budget().size(value) // 4


def _n_orders(value: object) -> int:
    return 2 * budget().size(value)


def _paid(function: Callable[..., Any], price: Callable[[object], int]) -> Callable[..., Any]:
    """`function`, which first pays for its arguments; its results are measured, lazy ones worked out."""

    @functools.wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        own = budget()
        own.charge(STEP + sum(map(price, (*args, *kwargs.values()))))
        result = function(*args, **kwargs)
        if isinstance(result, Iterator):
            return iter(own.listed(result))
        own.size(result)
        return result

    return paid


def allowed_filters() -> dict[str, Callable[..., Any]]:
    """By name."""
    prices = {
        name: price
        for names, price in (
            (_CHEAP, _free),
            (_LINEAR, _n_items),
            (_THOROUGH, _n_chars),
            (("sort",), _n_orders),
        )
        for name in names
    }
    functions: dict[str, Any] = dict(filters.FILTERS)
    paid = {name: _paid(functions[name], price) for name, price in prices.items()}
    return paid | {name: _paid(function, _n_items) for name, function in _OWN_FILTERS.items()}


def allowed_tests() -> dict[str, Callable[..., Any]]:
    """By name: all that Jinja has."""
    tests: dict[str, Any] = dict(JINJA_TESTS)
    return {name: _paid(function, _n_chars) for name, function in tests.items()}
