"""GBNF in llguidance's dialect of Lark.

llguidance's own converter (`llguidance.gbnf_to_lark`, 1.9.1) is not used: what it makes of ``[a-z]* "ing"`` lets nobody
write "inking" (see `lexemes`), ``\\u0041`` becomes ``\\u41``, which is none, and ``.`` takes no line end.
"""

from __future__ import annotations

from llorch.chat.gbnf.lexemes import is_run, safe_runs
from llorch.chat.gbnf.nodes import (
    Chars,
    Choice,
    Node,
    Ranges,
    Reference,
    Repeat,
    Rules,
    Sequence,
    Tokens,
    has_tokens,
    references,
)
from llorch.chat.gbnf.parse import TokenFinder, parse_gbnf
from llorch.chat.gbnf.recursion import is_regular, used, without_tails
from llorch.chat.gbnf.runs import with_runs
from llorch.errors import ConstraintError

MAX_TIMES = 200
"""Repetitions of anything but one set of characters, where recursion or tokens let the parser count them one by one."""


def lark_of_gbnf(text: str, find_token: TokenFinder) -> tuple[str, list[str]]:
    """What the whole text is, and the rules that it uses; no part of `text` is in them as it stands.

    Args:
        text: the grammar.
        find_token: knows the vocabulary.

    Raises:
        ConstraintError: it is no grammar, or too large; the message says where.
    """
    rules = used(without_tails(parse_gbnf(text, find_token)))
    if is_regular(rules) and not any(map(has_tokens, rules.values())):
        return _Regular(rules).written()
    rules = used(with_runs(rules))
    return _ContextFree(rules, safe_runs(rules)).written()


class _Regular:
    """Writes a grammar without recursion: the whole text is one lexeme, so nothing depends on where it is split."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._names = {name: f"R{i}" for i, name in enumerate(rules)}

    def written(self) -> tuple[str, list[str]]:
        return self._names["root"], [
            f"{self._names[name]}: {self._of(node)}" for name, node in self._rules.items()
        ]

    def _of(self, node: Node) -> str:
        if not references(node):
            expression = _expression(node)
            return f"/{expression}/" if expression else '""'
        match node:
            case Reference(name):
                return self._names[name]
            case Sequence(items):
                return "(" + " ".join(map(self._of, items)) + ")"
            case Choice(items):
                return "(" + " | ".join(map(self._of, items)) + ")"
            case Repeat(item, least, most):
                return _repeated(self._of(item), _times(least, most))
        raise AssertionError(node)


class _ContextFree:
    """Writes a grammar with recursion or tokens: lexemes are characters, tokens, and the runs that may be some."""

    def __init__(self, rules: Rules, runs: set[int]) -> None:
        self._rules = rules
        self._runs = runs
        self._names = {name: f"r{i}" for i, name in enumerate(rules)}
        self._lexemes: dict[str, str] = {}

    def written(self) -> tuple[str, list[str]]:
        written = [f"{self._names[name]}: {self._of(node)}" for name, node in self._rules.items()]
        return self._names["root"], [
            *written,
            *(f"{name}: /{expression}/" for expression, name in self._lexemes.items()),
        ]

    def _of(self, node: Node) -> str:
        match node:
            case Chars(ranges):
                return self._lexeme(_set(ranges))
            case Tokens(ranges):
                return f"<[{','.join(_ids(low, high) for low, high in ranges)}]>"
            case Reference(name):
                return self._names[name]
            case Sequence(items):
                return "(" + " ".join(map(self._of, items)) + ")" if items else '""'
            case Choice(items):
                return "(" + " | ".join(map(self._of, items)) + ")"
            case Repeat(Chars(ranges), least, most) if is_run(node) and id(node) in self._runs:
                run = self._lexeme(_set(ranges) + _times(max(least, 1), most))
                return run if least else f"{run}?"
            case Repeat(item, least, most):
                if max(least, most or 0) > MAX_TIMES and not is_run(node):
                    raise ConstraintError(
                        f"more than {MAX_TIMES} repetitions in a grammar with recursion or tokens"
                    )
                return _repeated(self._of(item), _times(least, most))
        raise AssertionError(node)

    def _lexeme(self, expression: str) -> str:
        """The name of a lexeme."""
        return self._lexemes.setdefault(expression, f"C{len(self._lexemes)}")


def _repeated(item: str, times: str) -> str:
    """An item of Lark with a sign of repetition; parentheses only where needed, as Lark nests no more than 100."""
    is_one = item.isalnum() or item.endswith(")")
    return f"{item}{times}" if is_one else f"({item}){times}"


def _expression(node: Node) -> str:
    """A node that refers to nothing as a regular expression."""
    match node:
        case Chars(ranges):
            return _set(ranges)
        case Sequence(items):
            return "".join(map(_expression, items))
        case Choice(items):
            return "(?:" + "|".join(map(_expression, items)) + ")"
        case Repeat(item, least, most):
            return f"(?:{_expression(item)}){_times(least, most)}"
    raise AssertionError(node)


def _set(ranges: Ranges) -> str:
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _code(ranges[0][0])
    pairs = (_code(low) if low == high else f"{_code(low)}-{_code(high)}" for low, high in ranges)
    return f"[{''.join(pairs)}]"


def _ids(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low}-{high}"


def _code(code: int) -> str:
    return f"\\x{{{code:x}}}"


def _times(least: int, most: int | None) -> str:
    if most is None:
        return "*" if least == 0 else "+" if least == 1 else f"{{{least},}}"
    if (least, most) == (0, 1):
        return "?"
    return "" if least == most == 1 else f"{{{least},{most}}}"
