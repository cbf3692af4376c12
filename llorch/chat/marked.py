"""A template whose control tokens can be told from the same characters in a user's text.

While a template runs, each control token in the template's own literals is one lone surrogate, a character that no
valid text has. What comes out as such a mark is a control token; everything else is text, whatever it spells, and
however the template cut, joined or changed it.

Some templates spell control tokens from pieces (``'<|' + message.role + '|>'``). Trial renderings find these. In the
requests of such a template, the characters of those tokens are surrogates, too, so that only the template's own
characters can spell one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llorch.chat.jinja.program import Program, TemplateFault

_FIRST_MARK, _FIRST_TAINT, _LAST = 0xD800, 0xDC00, 0xDFFF
_SURROGATE = re.compile(f"[{chr(_FIRST_MARK)}-{chr(_LAST)}]")
_MARK = re.compile(f"([{chr(_FIRST_MARK)}-{chr(_FIRST_TAINT - 1)}])")

ROLES = frozenset({"system", "user", "assistant", "tool"})
"""Words of messages that are no user's: templates may spell tokens with them."""

MAX_NESTING = 60
"""Lists and objects inside one another in what a request hands to a template."""


class UnfitValue(Exception):
    """A request hands something to a template that none can take.

    Attributes:
        name: of the variable that holds it, once that is known.
    """

    name = ""


class MarkedTemplate:
    """A compiled template for one vocabulary. Read-only once it has learned: threads may share it.

    Attributes:
        names: of the variables that the template asks for.
    """

    def __init__(
        self,
        source: str,
        special_texts: Mapping[str, int],
        control_ids: Iterable[int],
        own: Mapping[str, str],
    ) -> None:
        """Compile `source`.

        Args:
            source: Jinja.
            special_texts: ids of all special tokens, longest text first.
            control_ids: those of them that users must not write.
            own: variables whose texts are the template's own, such as `bos_token`.

        Raises:
            TemplateFault: it cannot be used.
        """
        self._special_texts = special_texts
        self._control_ids = frozenset(control_ids)
        self._marks: dict[str, str] = {}
        self._ids: dict[str, int] = {}
        self._composed: re.Pattern[str] | None = None
        self._taints: dict[int, int] = {}
        self._untaints: dict[int, int] = {}
        self._program = Program(source, self._marker)
        self._own = {name: self._mark(text) for name, text in own.items()}
        self.names = self._program.names

    def _mark(self, text: str) -> str:
        """What stands for `text` inside the template: a mark for a control token, else the text itself."""
        token_id = self._special_texts.get(text)
        if token_id is None or token_id not in self._control_ids:
            return text
        if text not in self._marks:
            if len(self._marks) == _FIRST_TAINT - _FIRST_MARK:
                raise TemplateFault("it writes too many different control tokens")
            self._marks[text] = chr(_FIRST_MARK + len(self._marks))
            self._ids[self._marks[text]] = token_id
        return self._marks[text]

    def parts(self, variables: Mapping[str, Any]) -> list[str | int]:
        """What the template makes of `variables`: texts, and the control tokens between them.

        Args:
            variables: from a request; ``messages`` among them.

        Raises:
            TemplateFault: the rendering fails.
            UnfitValue: `variables` hold what is no JSON, or nested too deep.
        """
        prepared = {name: self._variable(name, value) for name, value in variables.items()}
        for message, given in zip(prepared.get("messages", ()), variables.get("messages", ()), strict=True):
            if given.get("role") in ROLES:
                message["role"] = given["role"]
        text = self._program.run(prepared | self._own)
        parts: list[str | int] = []
        for piece in _MARK.split(text):
            if piece in self._ids:
                parts.append(self._ids[piece])
            elif piece:
                parts += self._composed_parts(piece)
        return _merged(parts)

    def learn(self, trial_parts: Iterable[str | int]) -> None:
        """Find the control tokens that the template spells from pieces, in a rendering without a user's text.

        Raises:
            TemplateFault: there are too many.
        """
        known = {text for part in trial_parts if isinstance(part, str) for text in self._controls_in(part)}
        if not known:
            return
        if self._composed is not None:
            known |= {text for text in self._special_texts if self._composed.fullmatch(text)}
        ordered = sorted(known, key=len, reverse=True)
        self._composed = re.compile(f"({'|'.join(map(re.escape, ordered))})")
        characters = sorted({ord(character) for text in known for character in text})
        if len(characters) > _LAST - _FIRST_TAINT:
            raise TemplateFault("it spells too many different control tokens")
        self._taints = {code: _FIRST_TAINT + i for i, code in enumerate(characters)}
        self._untaints = {taint: code for code, taint in self._taints.items()}

    def _controls_in(self, text: str) -> list[str]:
        return [
            control
            for control, token_id in self._special_texts.items()
            if token_id in self._control_ids and control in text
        ]

    def _marker(self, words: frozenset[str]) -> Callable[[str], str]:
        """What marks the control tokens in each of `words`."""
        everything = "\0".join(words)
        if _SURROGATE.search(everything):
            raise TemplateFault("it holds lone surrogates, which are no characters")
        found = [re.escape(text) for text in self._special_texts if text in everything]
        if not found:
            return lambda text: text
        pattern = re.compile("|".join(found))
        return lambda text: pattern.sub(lambda match: self._mark(match[0]), text)

    def _variable(self, name: str, value: Any) -> Any:
        """`value` as the template gets it."""
        try:
            return self._prepared(value, MAX_NESTING)
        except UnfitValue as fault:
            fault.name = name
            raise

    def _prepared(self, value: Any, n_levels: int) -> Any:
        """A copy of a request's `value`, in which no text can spell a composed control token."""
        if isinstance(value, str):
            if _SURROGATE.search(value):
                raise UnfitValue("a text holds a lone surrogate, which is no character")
            return value.translate(self._taints) if self._taints else value
        if value is None or isinstance(value, bool | int | float):
            return value
        if n_levels <= 0:
            raise UnfitValue(f"lists and objects may be {MAX_NESTING} deep inside one another")
        if isinstance(value, list | tuple):
            return [self._prepared(item, n_levels - 1) for item in value]
        if isinstance(value, Mapping):
            return {self._own_word(key): self._item(key, item, n_levels - 1) for key, item in value.items()}
        raise UnfitValue(f"a value of type {type(value).__name__} is no JSON")

    def _item(self, key: object, value: Any, n_levels: int) -> Any:
        """The value of a key: kinds of things, too, are words that templates compare."""
        is_word = key == "type" and isinstance(value, str)
        return self._own_word(value) if is_word else self._prepared(value, n_levels)

    def _own_word(self, value: Any) -> Any:
        """A key as the template can look it up: one of its own words stays as it is."""
        is_own = isinstance(value, str) and value.isidentifier() and value in self._program.words
        return value if is_own else self._prepared(value, 0)

    def _composed_parts(self, text: str) -> list[str | int]:
        pieces = self._composed.split(text) if self._composed else [text]
        parts: list[str | int] = []
        for i, piece in enumerate(pieces):
            if i % 2:
                parts.append(self._special_texts[piece])
            elif piece:
                parts.append(piece.translate(self._untaints) if self._untaints else piece)
        for part in parts:
            if isinstance(part, str) and _SURROGATE.search(part):
                raise TemplateFault("it writes lone surrogates, which are no characters")
        return parts


def _merged(parts: Iterable[str | int]) -> list[str | int]:
    """`parts` with neighbouring texts as one."""
    merged: list[str | int] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(last := merged[-1], str):
            merged[-1] = last + part
        else:
            merged.append(part)
    return merged
