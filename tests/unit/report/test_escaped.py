"""Nothing that comes from a file can become markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from llorch.report.escaped import Marked, data_script, table, text

EVIL = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!-- <script>",
    "a\u2028b\u2029c",
    "nul \x00, escape \x1b, surrogate \ud800",
    "&lt;b&gt;",
    "{{data}} $title %s",
]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.texts = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts += data


@pytest.mark.parametrize("evil", EVIL)
def test_text_stays_text(evil: str) -> None:
    tags = Tags()
    tags.feed(f'<p title="{text(evil)}">{text(evil)}</p>')
    assert tags.names == ["p"]
    assert tags.texts == re.sub("[\x00\x1b\ud800]", "\N{REPLACEMENT CHARACTER}", evil)


@pytest.mark.parametrize("evil", EVIL)
def test_data_cannot_end_its_script_and_comes_back(evil: str) -> None:
    script = data_script("data", {evil: [evil]})
    content = script.removeprefix('<script type="application/json" id="data">').removesuffix("</script>")
    assert not set(content) & set("<>&\u2028\u2029\x00\x1b\ud800")
    read = json.loads(content)
    shown = re.sub("[\ud800]", "\N{REPLACEMENT CHARACTER}", evil)
    assert read == {shown: [shown]}
    script.encode()


def test_a_number_that_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        data_script("data", {"x": float("nan")})


def test_a_long_text_is_cut() -> None:
    assert len(text("x" * 100_000)) < 2100


@pytest.mark.parametrize("evil", EVIL[:3])
def test_a_table_holds_its_cells_and_nothing_else(evil: str) -> None:
    tags = Tags()
    tags.feed(table(evil, (evil, "n"), [(evil, Marked.verdict(False, evil))], numbers=(1,)))
    assert tags.names == ["div", "table", "caption", "thead", "tr", "th", "th", "tbody", "tr", "th", "td"]
    assert 'class="number bad"' in table("", ("a", "b"), [("x", Marked.verdict(False, "y"))], numbers=(1,))
