"""Reads GBNF, as llama.cpp's parser does.

Source: llama.cpp, `src/llama-grammar.cpp`, `llama_grammar_parser`. Beside that, rules may recur on the left.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from llorch.chat.gbnf.nodes import (
    ANY,
    EMPTY,
    Chars,
    Choice,
    Node,
    Ranges,
    Reference,
    Repeat,
    Rules,
    Sequence,
    Tokens,
    all_but,
    in_order,
    references,
)
from llorch.errors import ConstraintError

MAX_CHARS = 65_536
"""Of a grammar's text."""
MAX_RULES = 500
"""With names; `MAX_LEVELS` bounds how they lead to one another."""
MAX_NODES = 10_000
"""Characters of literals, sets, references and groups, together."""
MAX_DEPTH = 16
"""Groups in one another."""
MAX_SIGNS = 3
"""Signs of repetition behind one item."""
MAX_TIMES = 2_000
"""Repetitions, as in llama.cpp."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_LINE_END = re.compile(r"\r\n|\r|\n|\Z")
_TIMES = re.compile(r"\{[ \t]*([0-9]{1,6})[ \t]*(?:(,)[ \t]*([0-9]{1,6})?[ \t]*)?\}")
_HEX = {
    "x": re.compile("[0-9a-fA-F]{2}"),
    "u": re.compile("[0-9a-fA-F]{4}"),
    "U": re.compile("[0-9a-fA-F]{8}"),
}
_ESCAPED = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_TOKEN = re.compile(r"!?(<[^>]{1,200}>)")
_SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_MAX_SHOWN = 40
"""Characters of a rule's name in a message."""


TokenFinder: TypeAlias = Callable[[str, bool], Ranges | None]
"""Ids of the token of that name, ``<[5]>`` or its text, or of all others if the second is true; None: there is none."""


def parse_gbnf(text: str, find_token: TokenFinder) -> Rules:
    """The rules of a grammar by their names; there is one called root, and all that are referred to.

    Args:
        text: the grammar.
        find_token: knows the vocabulary.

    Raises:
        ConstraintError: it is no grammar, or too large; the message says where.
    """
    if len(text) > MAX_CHARS:
        raise ConstraintError(f"more than {MAX_CHARS} characters in a grammar")
    return _Parser(text, find_token).rules()


class _Parser:
    """Reads one text from its beginning to its end."""

    def __init__(self, text: str, find_token: TokenFinder) -> None:
        self._text = text
        self._find_token = find_token
        self._at = 0
        self._n_nodes = 0
        self._places: dict[str, int] = {}

    def rules(self) -> Rules:
        """All rules; where two have the same name, the last one counts."""
        found: dict[str, Node] = {}
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            name = self._name()
            self._skip(_SPACE)
            if not self._text.startswith("::=", self._at):
                self._fail("expected ::=")
            self._at += 3
            self._skip(_SPACE_AND_LINES)
            found[name] = self._choice(0)
            if not self._skip(_LINE_END) and self._at < len(self._text):
                self._fail("expected an item of a rule, or the end of the line")
            self._skip(_SPACE_AND_LINES)
            if len(found) > MAX_RULES:
                raise ConstraintError(f"more than {MAX_RULES} rules")
        for name in sorted(set().union(*map(references, found.values())) - found.keys()):
            shown = name if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]}..."
            self._fail(f"no rule is called {shown}", self._places[name])
        if "root" not in found:
            raise ConstraintError("no rule is called root")
        return found

    def _choice(self, depth: int) -> Node:
        items = [self._sequence(depth)]
        while self._take("|"):
            self._skip(_SPACE_AND_LINES)
            items.append(self._sequence(depth))
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def _sequence(self, depth: int) -> Node:
        items: list[Node] = []
        while (item := self._item(depth)) is not None:
            self._skip_space(depth)
            items.append(self._repeated(item, depth))
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _item(self, depth: int) -> Node | None:
        """The item that begins here; None if none does."""
        begin, char = self._at, self._text[self._at : self._at + 1]
        if _NAME.match(char):
            self._count(1)
            name = self._name()
            self._places.setdefault(name, begin)
            return Reference(name)
        if char not in ('"', "[", "(", ".", "<", "!"):
            return None
        self._at += 1
        match char:
            case '"':
                return self._literal()
            case "[":
                return self._set()
            case "(":
                return self._group(begin, depth)
            case ".":
                self._count(1)
                return Chars(ANY)
        return self._token(begin)

    def _literal(self) -> Node:
        begin = self._at - 1
        items: list[Node] = []
        while not self._take('"'):
            code = self._char("the end of the literal", begin)
            items.append(Chars(((code, code),)))
            self._count(1)
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _set(self) -> Node:
        begin = self._at - 1
        is_negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            low = high = self._char("the end of the set", begin)
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                high = self._char("the end of the set", begin)
            if high < low:
                self._fail("a range that ends before it begins", begin)
            ranges.append((low, high))
            self._count(1)
        chars = in_order(ranges)
        if is_negated and ranges:
            chars = all_but(chars)
        if not chars:
            self._fail("a set without characters", begin)
        return Chars(chars)

    def _token(self, begin: int) -> Node:
        found = _TOKEN.match(self._text, begin)
        if found is None:
            self._fail("expected a token: <[id]>, or its text that begins with < and ends with >", begin)
        self._at = found.end()
        self._count(1)
        ranges = self._find_token(found[1], found[0].startswith("!"))
        if not ranges:
            self._fail("the vocabulary has no such token that could stand in an answer", begin)
        return Tokens(ranges)

    def _group(self, begin: int, depth: int) -> Node:
        if depth == MAX_DEPTH:
            self._fail(f"more than {MAX_DEPTH} groups in one another", begin)
        self._count(1)
        self._skip(_SPACE_AND_LINES)
        node = self._choice(depth + 1)
        if not self._take(")"):
            self._fail("expected an item or )")
        return node

    def _repeated(self, item: Node, depth: int) -> Node:
        """`item` with the signs of repetition that stand behind it."""
        n_signs = 0
        while self._at < len(self._text) and self._text[self._at] in "*+?{":
            n_signs += 1
            if n_signs > MAX_SIGNS:
                self._fail(f"more than {MAX_SIGNS} signs of repetition behind one item")
            least, most = self._times()
            item = Repeat(item, least, most) if most != 0 else EMPTY
            self._skip_space(depth)
        return item

    def _times(self) -> tuple[int, int | None]:
        begin = self._at
        if sign := _SIGNS.get(self._text[begin]):
            self._at += 1
            return sign
        found = _TIMES.match(self._text, begin)
        if found is None:
            self._fail("expected {m}, {m,} or {m,n}")
        self._at = found.end()
        least = int(found[1])
        most = None if found[2] and found[3] is None else int(found[3] or least)
        if max(least, most or 0) > MAX_TIMES:
            self._fail(f"more than {MAX_TIMES} repetitions", begin)
        if most is not None and most < least:
            self._fail("fewer repetitions at most than at least", begin)
        return least, most

    def _char(self, missing: str, begin: int) -> int:
        """The character that is spelt here."""
        if self._at >= len(self._text):
            self._fail(f"{missing} is missing", begin)
        place, char = self._at, self._text[self._at]
        self._at += 1
        if char == "\\":
            char = self._escaped(place)
        if not 0 <= ord(char) <= 0x10FFFF or 0xD800 <= ord(char) <= 0xDFFF:
            self._fail("no character has this number", place)
        return ord(char)

    def _escaped(self, place: int) -> str:
        kind = self._text[self._at : self._at + 1]
        self._at += 1
        if kind in _ESCAPED:
            return _ESCAPED[kind]
        digits = _HEX[kind].match(self._text, self._at) if kind in _HEX else None
        if digits is None:
            self._fail(r"an escape is \x41, \u0041, \U00000041, or one of \t \r \n \\ \" \[ \] \-", place)
        self._at = digits.end()
        code = int(digits[0], 16)
        return chr(code) if code <= 0x10FFFF else "\ud800"

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            self._fail("expected the name of a rule")
        self._at = found.end()
        return found[0]

    def _take(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True

    def _skip(self, what: re.Pattern[str]) -> bool:
        """Whether something was there to skip."""
        found = what.match(self._text, self._at)
        begin, self._at = self._at, found.end() if found else self._at
        return self._at > begin

    def _skip_space(self, depth: int) -> None:
        self._skip(_SPACE_AND_LINES if depth else _SPACE)

    def _count(self, n: int) -> None:
        self._n_nodes += n
        if self._n_nodes > MAX_NODES:
            self._fail(f"more than {MAX_NODES} characters, sets, names and groups")

    def _fail(self, what: str, at: int | None = None) -> NoReturn:
        at = self._at if at is None else at
        line = self._text.count("\n", 0, at) + 1
        column = at - (self._text.rfind("\n", 0, at) + 1) + 1
        raise ConstraintError(f"line {line}, column {column}: {what}")
