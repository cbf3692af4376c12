"""The slow twin of the JSON grammar: reads bytes one by one, and says whether they begin a JSON object."""

from __future__ import annotations

import re

_SPACE = re.compile(rb"\n[ \t]{0,20}| ?")
_NUMBER = re.compile(rb"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_NUMBER_BEGUN = re.compile(rb"-?((0|[1-9]\d*)(\.\d*)?|(0|[1-9]\d*)(\.\d+)?[eE][+-]?\d*)?")
_ESCAPE_BEGUN = re.compile(rb'\\(u(0(0([01][0-9a-fA-F]?|7[fF]?)?)?)?|["\\bfnrt]?)')


class Incomplete(Exception):
    """The text ended in the middle: it is a beginning."""


class Wrong(Exception):
    """No JSON begins like this."""


def begins_object(text: bytes) -> bool:
    """Whether some bytes behind `text` make it a JSON object, with at most one run of white space at a place."""
    try:
        return _Reader(text).object() == len(text)
    except Incomplete:
        return True
    except Wrong:
        return False


def is_object(text: bytes) -> bool:
    """Whether `text` is a whole JSON object."""
    try:
        return _Reader(text).object() == len(text)
    except (Incomplete, Wrong):
        return False


class _Reader:
    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> bytes:
        if self.at == len(self.text):
            raise Incomplete
        return self.text[self.at : self.at + 1]

    def expect(self, word: bytes) -> None:
        for i in range(len(word)):
            if self.peek() != word[i : i + 1]:
                raise Wrong
            self.at += 1

    def space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        self.peek()

    def object(self) -> int:
        self.expect(b"{")
        self.space()
        if self.peek() != b"}":
            while True:
                self.string()
                self.space()
                self.expect(b":")
                self.space()
                self.value()
                self.space()
                if self.peek() != b",":
                    break
                self.at += 1
                self.space()
        self.expect(b"}")
        return self.at

    def array(self) -> None:
        self.expect(b"[")
        self.space()
        if self.peek() != b"]":
            while True:
                self.value()
                self.space()
                if self.peek() != b",":
                    break
                self.at += 1
                self.space()
        self.expect(b"]")

    def value(self) -> None:
        first = self.peek()
        if first == b"{":
            self.object()
        elif first == b"[":
            self.array()
        elif first == b'"':
            self.string()
        elif first in b"tfn":
            self.expect({b"t": b"true", b"f": b"false", b"n": b"null"}[first])
        else:
            self.number()

    def number(self) -> None:
        rest = self.text[self.at :]
        begun = _NUMBER_BEGUN.fullmatch(rest)
        if begun and rest:
            raise Incomplete
        found = _NUMBER.match(rest)
        if found is None:
            raise Wrong
        self.at += found.end()

    def string(self) -> None:
        self.expect(b'"')
        while (byte := self.peek()) != b'"':
            if byte == b"\\":
                self.escape()
            elif byte < b" " or byte == b"\x7f":
                raise Wrong
            else:
                self.character()
        self.at += 1

    def escape(self) -> None:
        rest = self.text[self.at :]
        found = _ESCAPE_BEGUN.match(rest)
        assert found is not None
        n = 6 if rest[1:2] == b"u" else 2
        if found.end() == len(rest) < n:
            raise Incomplete
        if found.end() < n:
            raise Wrong
        self.at += n

    def character(self) -> None:
        for n in range(1, 5):
            piece = self.text[self.at : self.at + n]
            try:
                piece.decode()
            except UnicodeDecodeError as error:
                if len(piece) < n or error.reason != "unexpected end of data":
                    if error.reason == "unexpected end of data":
                        raise Incomplete from None
                    raise Wrong from None
            else:
                self.at += n
                return
        raise Wrong
