"""Where a JSON object ends, in text that arrives in pieces."""

from __future__ import annotations

import re

_NEXT = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')


class JSONSpan:
    """Counts brackets outside strings, from an opening bracket on. Looks at each character once.

    Attributes:
        end: characters up to the bracket that closes the first one; None while it has not come.
    """

    def __init__(self, depth: int = 0) -> None:
        """Begin at an opening bracket; or behind some, `depth` of them."""
        self.end: int | None = None
        self._seen = 0
        self._depth = depth
        self._is_string = False
        self._is_escaped = False

    def push(self, text: str) -> None:
        """Add text; what comes behind the end is not looked at."""
        i = 0
        while self.end is None and i < len(text):
            if self._is_escaped:
                self._is_escaped = False
                i += 1
                continue
            found = (_IN_STRING if self._is_string else _NEXT).search(text, i)
            if found is None:
                break
            i = found.end()
            if found[0] == "\\":
                self._is_escaped = True
            elif found[0] == '"':
                self._is_string = not self._is_string
            elif found[0] in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    self.end = self._seen + i
        self._seen += len(text)
