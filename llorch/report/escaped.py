"""Text and data inside HTML: nothing that comes from a file can become markup."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_IN_SCRIPT = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
TEXT_AT_MOST = 2000


def text(value: object) -> str:
    """A value as HTML text or in an attribute's quotes; long ones are cut, control characters replaced."""
    shown = str(value)
    if len(shown) > TEXT_AT_MOST:
        shown = f"{shown[:TEXT_AT_MOST]}…"
    return html.escape(_UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", shown))


def data_script(name: str, document: Mapping[str, Any]) -> str:
    """A JSON document as a script element that is not run; no string in it can end the element."""
    content = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    content = _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", content.translate(_IN_SCRIPT))
    return f'<script type="application/json" id="{text(name)}">{content}</script>'


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()
) -> str:
    """A table; cells of the columns `numbers` stand at the right. The first cell of a row is its heading."""

    def cell(index: int, value: object, tag: str) -> str:
        kinds = ["number"] if index in numbers else []
        kinds += [value.kind] if isinstance(value, Marked) else []
        kind = f' class="{" ".join(kinds)}"' if kinds else ""
        scope = {"th": ' scope="row"', "td": ""}[tag]
        return f"<{tag}{scope}{kind}>{text(value)}</{tag}>"

    lines = "".join(
        f"<tr>{''.join(cell(i, value, 'td' if i else 'th') for i, value in enumerate(row))}</tr>\n"
        for row in rows
    )
    heads = "".join(
        f'<th scope="col"{" class=number" if i in numbers else ""}>{text(name)}</th>'
        for i, name in enumerate(head)
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">'
        f'<table class="figures"><caption>{text(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>{lines}</tbody></table></div>"
    )


class Marked(str):
    """A text of a table in a colour: `kind` is ``"good"`` or ``"bad"``."""

    __slots__ = ("kind",)
    kind: str

    @classmethod
    def verdict(cls, holds: bool, words: str) -> Marked:
        """Good where something holds."""
        marked = cls(words)
        marked.kind = "good" if holds else "bad"
        return marked
