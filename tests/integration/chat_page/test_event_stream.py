"""The page's reader of server-sent events, as a module in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


def parsed_events(page: Page, pieces: list[str]) -> list[str]:
    found: list[str] = page.evaluate(
        "pieces => { const parser = new m.EventParser(); return pieces.flatMap(piece => parser.push(piece)); }",
        pieces,
    )
    return found


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_read_however_they_are_cut(modules: Page, end: str) -> None:
    lines = [
        ": keep-alive",
        "",
        'data: {"a":1}',
        "",
        "event: x",
        "data:b",
        "data: c",
        "",
        "id: 3",
        "",
        "data: [DONE]",
        "",
        "",
    ]
    stream = end.join(lines) + "x"
    expected = ['{"a":1}', "b\nc", "[DONE]"]
    for size in (1, 2, 3, 5, len(stream)):
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert parsed_events(modules, pieces) == expected, size


def test_a_letter_that_is_cut_in_two_is_whole(modules: Page) -> None:
    found: Any = modules.evaluate(
        """async () => {
          const bytes = new TextEncoder().encode("data: ü🦊\\n\\n");
          const body = new ReadableStream({start(c) {
            for (const b of bytes) c.enqueue(new Uint8Array([b]));
            c.close();
          }});
          const all = [];
          for await (const data of m.eventsOf(body)) all.push(data);
          return all;
        }"""
    )
    assert found == ["ü🦊"]
