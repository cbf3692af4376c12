"""The sandbox: what a template can reach, and that all of it is paid for."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from jinja2 import Undefined
from jinja2.exceptions import SecurityError
from jinja2.ext import LoopControlExtension
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Cycler, Joiner, Namespace

from llorch.chat.jinja.budget import LimitError, budget
from llorch.chat.jinja.filters import allowed_filters, allowed_tests
from llorch.chat.jinja.methods import (
    StringFormat,
    add,
    as_text,
    call_method,
    is_allowed_method,
    joined,
    multiply,
    power,
    remainder,
)
from llorch.chat.jinja.rewrite import METERS, Generation

_MAX_FORMAT_CHARS = 100

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"+": add, "*": multiply, "**": power, "%": remainder}


class TemplateRefusal(Exception):
    """A template called `raise_exception`."""


def _raise_exception(message: object) -> None:
    raise TemplateRefusal(as_text(message))


def _strftime_now(pattern: str) -> str:
    if len(pattern) > _MAX_FORMAT_CHARS:
        raise LimitError(f"strftime_now: a pattern has at most {_MAX_FORMAT_CHARS} characters")
    return datetime.now().strftime(pattern)


class _OpaqueNamespace(Namespace):
    """A namespace that does not show what it holds: that might be more than a text can be."""

    def __repr__(self) -> str:
        return "<namespace>"


_FUNCTIONS: dict[str, Any] = {
    "range": safe_range, "dict": dict, "namespace": _OpaqueNamespace, "cycler": Cycler, "joiner": Joiner,
    "raise_exception": _raise_exception, "strftime_now": _strftime_now,
}  # fmt: skip
"""What templates may call by name."""

_CALLABLE_TYPES = (Macro, LoopContext, Joiner, StringFormat, Undefined)
_COMPILER_KEYWORDS = ("_loop_vars", "_block_vars")
"""Added by Jinja's compiler for functions that take the context, which none here does."""

_METHOD_OWNERS = {LoopContext: ("cycle", "changed"), Cycler: ("next", "reset")}


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox whose every operation is paid for. Threads may share it.

    Source: transformers `_compile_jinja_template`, for the settings and names that templates rely on.
    """

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[LoopControlExtension, Generation],
            finalize=_as_output,
            cache_size=0,
        )
        self.globals = dict(_FUNCTIONS)
        tables: Any = ({**allowed_filters(), **METERS}, allowed_tests())
        self.filters, self.tests = tables
        self.binop_table |= _OPERATORS

    def concat(self, texts: Iterable[str]) -> str:
        """One text of what a macro, a block or the template wrote."""
        return joined("", texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Work out ``left operator right``."""
        result = super().call_binop(context, operator, left, right)
        budget().size(result)
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` as what templates may call instead."""
        is_bound = isinstance(value, types.BuiltinMethodType) and isinstance(value.__self__, str)
        if is_bound and value.__name__ in ("format", "format_map"):
            return StringFormat(str(value.__self__))
        return None

    def is_safe_callable(self, obj: Any) -> bool:
        """Whether it is among what templates may call."""
        if isinstance(obj, types.MethodType):
            return obj.__name__ in _METHOD_OWNERS.get(type(obj.__self__), ())
        return isinstance(obj, _CALLABLE_TYPES) or any(obj is known for known in _FUNCTIONS.values())

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls."""
        kwargs = {name: value for name, value in kwargs.items() if name not in _COMPILER_KEYWORDS}
        own = budget()
        with own.call():
            own.size(args)
            own.size(kwargs)
            if is_allowed_method(__obj):
                result = call_method(__obj, args, kwargs)
            elif __self.is_safe_callable(__obj):
                result = __context.call(__obj, *args, **kwargs)
            else:
                name = getattr(__obj, "__name__", type(__obj).__name__)
                raise SecurityError(f"templates may not call {name!r}")
            own.size(result)
            return result


def _as_output(value: Any) -> Any:
    """`value` as it is written."""
    return value if isinstance(value, str) else as_text(value)
