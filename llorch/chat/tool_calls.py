"""Tool calls in what a model writes: pieces of text in, content and calls out.

However the text is cut into pieces, the same content and the same calls come out. No text is lost: what turns out to be
no call is content. The name of a call is given out as soon as its arguments begin, and these as they come.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any

from llorch.chat.call_deltas import CallArguments, CallBegin, Content, Delta, new_call_id
from llorch.chat.json_span import JSONSpan
from llorch.chat.tool_format import ToolFormat

_HEAD = re.compile(
    r'\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*"([^"\\]*)"(\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{))?'
)
_MAX_HEAD = 400
"""Characters in which name and beginning of the arguments must come; else the call is looked at when it is complete."""
_FIRST_KEY = re.compile(r'\{\s*(?:"([^"]*)"|[^"\s])')
_KEYS = {"type", "name", "arguments", "parameters", "id"}


class ToolCallParser:
    """Finds the calls in one answer.

    Attributes:
        n_calls: calls that have begun.
    """

    def __init__(
        self,
        tool_format: ToolFormat,
        names: Collection[str],
        *,
        is_parallel: bool = True,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        """Begin an answer.

        Args:
            tool_format: how the model writes calls.
            names: of the tools; a call of anything else is content.
            is_parallel: find more than one call.
            new_id: makes the id of a call.
        """
        self.n_calls = 0
        self._format = tool_format
        self._names = frozenset(names)
        self._max_calls = None if is_parallel else 1
        self._new_id = new_id
        self._deltas: list[Delta] = []
        self._held = ""
        """Text of which nothing has been given out; `_at` characters of it have been understood."""
        self._at = 0
        self._n_opener = 0
        """How many characters held are an opener, and what is in front of it."""
        self._is_in_list = False
        self._span = JSONSpan()
        self._n_spanned = 0
        self._state: Callable[[], bool] = self._outside
        if tool_format.is_whole_answer:
            self._state = self._beginning

    @property
    def n_held(self) -> int:
        """How many of the last characters pushed may be content or a call: the next ones decide it."""
        return len(self._held)

    def push(self, text: str) -> list[Delta]:
        """What can be given out now that `text` has come."""
        self._held += text
        while self._state():
            pass
        return self._take()

    def finish(self) -> list[Delta]:
        """The rest: no more text will come."""
        if self._held.strip() or not self.n_calls:
            self._give_content(len(self._held))
        self._held, self._at = "", 0
        return self._take()

    def _take(self) -> list[Delta]:
        deltas, self._deltas = self._deltas, []
        return deltas

    def _give_content(self, n: int) -> None:
        """Give out the first `n` characters held."""
        if n:
            self._deltas.append(Content(self._held[:n]))
            self._held = self._held[n:]

    # Each state returns whether another one may go on with what is held.

    def _plain(self) -> bool:
        """Nothing will be a call any more."""
        self._give_content(len(self._held))
        return False

    def _outside(self) -> bool:
        """Text in which an opener may stand; white space in front of one is not content."""
        begin = self._held.find(self._format.opener)
        if begin < 0:
            n_mark = _n_begun(self._held, self._format.opener)
            self._give_content(len(self._held[: len(self._held) - n_mark].rstrip()))
            return False
        if self.n_calls == self._max_calls:
            self._state = self._plain
            return True
        self._give_content(len(self._held[:begin].rstrip()))
        self._at = self._n_opener = self._held.index(self._format.opener) + len(self._format.opener)
        self._is_in_list = False
        self._state = self._before_object
        return True

    def _beginning(self) -> bool:
        """The beginning of an answer that is calls as a whole, perhaps behind an opener."""
        text = self._held.lstrip()
        opener = self._format.opener
        if text.startswith(opener):
            self._at = self._held.index(opener) + len(opener)
        elif len(text) < len(opener) and opener.startswith(text):
            return False
        self._state = self._before_object
        return True

    def _before_object(self) -> bool:
        """In front of a call, or of a list of them."""
        if not self._skip_space():
            return False
        char = self._held[self._at]
        if char == "[" and not self._is_in_list and not self._format.is_whole_answer:
            self._is_in_list = True
            self._at += 1
            return True
        if char != "{" or self.n_calls == self._max_calls:
            return self._fail()
        self._span, self._n_spanned = JSONSpan(), self._at
        self._state = self._in_object
        return True

    def _in_object(self) -> bool:
        """In an object that may be a call: until its arguments begin, or it is complete, or wrong."""
        head = self._held[self._at : self._at + _MAX_HEAD]
        if found := _HEAD.match(head):
            if found[1] not in self._names:
                return self._fail()
            if found[2] is not None:
                self._begin_call(found[1], self._at + found.end())
                self._state = self._in_arguments
                return True
        elif (first := _FIRST_KEY.match(head)) and first[1] not in _KEYS:
            return self._fail()
        self._span.push(self._held[self._n_spanned :])
        self._n_spanned = len(self._held)
        if self._span.end is None:
            return False
        end = self._at + self._span.end
        call = _complete_call(self._held[self._at : end])
        if call is None or call[0] not in self._names:
            return self._fail()
        self._begin_call(call[0], end)
        self._deltas.append(CallArguments(self.n_calls - 1, call[1]))
        self._state = self._behind_call
        return True

    def _in_arguments(self) -> bool:
        """In the arguments, which are given out as they come."""
        if not self._held:
            return False
        n_before = self._n_spanned
        self._span.push(self._held)
        end = self._span.end
        n_new = len(self._held) if end is None else end - n_before
        self._n_spanned += n_new
        self._deltas.append(CallArguments(self.n_calls - 1, self._held[:n_new]))
        self._held = self._held[n_new:]
        if end is None:
            return False
        self._state = self._behind_arguments
        return True

    def _behind_arguments(self) -> bool:
        """Between the end of the arguments and that of the call; an id may stand there."""
        if not self._skip_space():
            return False
        if self._held[self._at] == "}":
            self._held, self._at = self._held[self._at + 1 :], 0
            self._state = self._behind_call
            return True
        if self._held[self._at] != ",":
            return self._fail()
        span = JSONSpan(depth=1)
        span.push(self._held[self._at :])
        if span.end is None:
            return False
        end = self._at + span.end
        rest = _loaded("{" + self._held[self._at + 1 : end])
        if not isinstance(rest, dict) or not rest.keys() <= {"id", "type"}:
            return self._fail()
        self._held, self._at = self._held[end:], 0
        self._state = self._behind_call
        return True

    def _behind_call(self) -> bool:
        """Behind a call: another one, the end of the list, or the closer."""
        if not self._skip_space():
            return False
        rest = self._held[self._at :]
        separator = ";" if self._format.is_whole_answer else ","
        if rest[0] == separator and (self._is_in_list or self._format.is_whole_answer):
            self._at += 1
            self._state = self._before_object
            return True
        if rest[0] == "]" and self._is_in_list:
            self._is_in_list = False
            self._held, self._at = rest[1:], 0
            return True
        closer = self._format.closer
        if len(rest) < len(closer) and closer.startswith(rest):
            return False
        if closer and rest.startswith(closer):
            self._held = rest[len(closer) :]
        self._at = 0
        self._state = self._plain if self._format.is_whole_answer else self._outside
        return True

    def _skip_space(self) -> bool:
        """Whether something other than white space comes; `_at` is there then."""
        rest = self._held[self._at :]
        text = rest.lstrip()
        if text:
            self._at += len(rest) - len(text)
        return bool(text)

    def _begin_call(self, name: str, end: int) -> None:
        """Give out that a call begins; what is held up to `end` has been understood."""
        self._deltas.append(CallBegin(self.n_calls, self._new_id(), name))
        self.n_calls += 1
        self._held, self._at, self._n_opener = self._held[end:], 0, 0
        self._span, self._n_spanned = JSONSpan(), 0

    def _fail(self) -> bool:
        """What is held is no call: its opener is content, and behind it another one may stand."""
        self._at = 0
        if self._format.is_whole_answer:
            self._state = self._plain
            return True
        self._give_content(self._n_opener)
        self._n_opener = 0
        self._state = self._outside
        return True


def _n_begun(text: str, mark: str) -> int:
    """How many of the last characters may be the beginning of `mark`."""
    return next(
        n for n in range(min(len(text), len(mark) - 1), -1, -1) if mark.startswith(text[len(text) - n :])
    )


def _complete_call(text: str) -> tuple[str, str] | None:
    """Name and arguments of a call that is complete, in whatever order; None if it is none."""
    value = _loaded(text)
    if not isinstance(value, dict) or not value.keys() <= _KEYS or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str) and isinstance(_loaded(arguments), dict):
        return value["name"], arguments
    if not isinstance(arguments, dict):
        return None
    return value["name"], json.dumps(arguments, ensure_ascii=False)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
