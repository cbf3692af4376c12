"""The page's Markdown as modules in a real Chromium: what becomes what, and what is never seen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import opened, wait_until_ready
from tests.support.live_server import LiveServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


def html(page: Page, text: str, *, is_open: bool = False) -> str:
    found: str = page.evaluate("([text, isOpen]) => m.html(text, isOpen)", [text, is_open])
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
        (
            '# A *b*\n## C ##\ntext',
            '<h3 class="level-1">A <em>b</em></h3><h4 class="level-2">C</h4><p>text</p>',
        ),
        (
            '**bold** and *it* and ***both*** and ~~no~~',
            '<p><strong>bold</strong> and <em>it</em> and <em><strong>both</strong></em> and <del>no</del></p'
            '>',
        ),
        ("snake_case_name and 2 * 3 * 4 and a*b", "<p>snake_case_name and 2 * 3 * 4 and a*b</p>"),
        ("_it_ __bold__", "<p><em>it</em> <strong>bold</strong></p>"),
        ("**open", "<p>**open</p>"),
        ("`a * b` ``c ` d``", "<p><code>a * b</code> <code>c ` d</code></p>"),
        ("\\*no\\* &lt;b&gt; &amp;", "<p>*no* &lt;b&gt; &amp;</p>"),
        ("a<br>b<b>c</b>", "<p>a<br>b&lt;b&gt;c&lt;/b&gt;</p>"),
        ("---\n***", "<hr><hr>"),
        ("> a\n> > b\nlazy", "<blockquote><p>a</p><blockquote><p>b<br>lazy</p></blockquote></blockquote>"),
        (
            '- a\n- b\n  - c\n\n1. x\n2. y',
            '<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><ol><li>x</li><li>y</li></ol>',
        ),
        ("3) a\n4) b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("1. a\n\n   more\n2. b", '<ol class="loose"><li><p>a</p><p>more</p></li><li><p>b</p></li></ol>'),
        (
            '- [x] done\n- [ ] open',
            '<ul><li class="task"><input type="checkbox" disabled="" aria-label="done">done</li><li class="ta'
            'sk"><input type="checkbox" disabled="" aria-label="open">open</li></ul>',
        ),
        (
            "```py\nx = '<b>'\n\ny\n```\nz",
            '<div class="code"><div class="code-head"><span>py</span></div><pre><code>x = \'&lt;b&gt;\'\n\ny</cod'
            'e></pre></div><p>z</p>',
        ),
        (
            '1. a\n   ```\n   code\n   ```',
            '<ol><li>a<div class="code"><div class="code-head"><span></span></div><pre><code>code</code></pre'
            '></div></li></ol>',
        ),
        (
            '|a|b|\n|-|:-:|\n|1|`x`|\n|2',
            '<div class="table"><table><thead><tr><th scope="col">a</th><th class="align-center" scope="col">'
            'b</th></tr></thead><tbody><tr><td>1</td><td class="align-center"><code>x</code></td></tr><tr><td'
            '>2</td><td class="align-center"></td></tr></tbody></table></div>',
        ),
        (
            '[a *b*](https://x.example/a_(b)) <https://y.example>',
            '<p><a href="https://x.example/a_(b)">a <em>b</em></a> <a href="https://y.example">https://y.exam'
            'ple</a></p>',
        ),
        (
            'See https://x.example/a_b?c=d. (https://x.example)',
            '<p>See <a href="https://x.example/a_b?c=d">https://x.example/a_b?c=d</a>. (<a href="https://x.ex'
            'ample">https://x.example</a>)</p>',
        ),
        ("![cat](https://x.example/c.png)", '<p><a href="https://x.example/c.png">cat</a></p>'),
        ("[a](javascript:alert(1)) [b](data:text/html,x) [c](/slots) [d](JaVaScRiPt:x)", "<p>a b c d</p>"),
        (
            '<script>alert(1)</script>\n\n<img src=x onerror=alert(1)>',
            '<p>&lt;script&gt;alert(1)&lt;/script&gt;</p><p>&lt;img src=x onerror=alert(1)&gt;</p>',
        ),
        (
            '[x](https://x.example/"onmouseover=alert(1))',
            '<p><a href="https://x.example/&quot;onmouseover=alert(1)">x</a></p>',
        ),
        ("array[0] = [1, 2]", "<p>array[0] = [1, 2]</p>"),
        ("```", '<div class="code"><div class="code-head"><span></span></div><pre><code></code></pre></div>'),
        ("", ""),
    ],
)  # fmt: skip
def test_markdown_becomes_these_elements(modules: Page, text: str, expected: str) -> None:
    assert html(modules, text) == expected


STREAMED = """# Title

Some **bold** text, `code`, a [link](https://x.example/path) and *more*.

- one
- two
  1. deep

```python
print("`")
```

| a | b |
|---|---|
| 1 | **2** |

> quoted *words*

Last array[0] line."""


def test_nothing_flickers_while_a_text_comes_letter_by_letter(modules: Page) -> None:
    """No marker is ever seen: what is shown is always the beginning of what is shown in the end."""
    seen: list[str] = modules.evaluate(
        """text => {
          const view = new m.MarkdownView(() => {});
          const seen = [];
          for (let n = 1; n <= text.length; n += 1) {
            view.update(text.slice(0, n), true);
            seen.push(view.node.textContent);
          }
          return seen;
        }""",
        STREAMED,
    )
    whole = modules.evaluate(
        "text => { const v = new m.MarkdownView(() => {}); v.update(text, false); return v.node.textContent; }",
        STREAMED,
    )
    assert [text for text in seen if not whole.startswith(text)] == []
    assert whole.endswith("Last array[0] line.")


def test_a_text_that_came_in_pieces_is_the_text_at_once(modules: Page) -> None:
    same = modules.evaluate(
        """text => {
          const whole = m.html(text);
          for (const step of [1, 2, 3, 7, 50]) {
            const view = new m.MarkdownView(() => {});
            for (let n = step; n < text.length; n += step) view.update(text.slice(0, n), true);
            view.update(text, false);
            const once = new m.MarkdownView(() => {});
            once.update(text, false);
            if (view.node.innerHTML !== once.node.innerHTML) return [step, view.node.innerHTML, once.node.innerHTML];
          }
          return [whole.length > 100];
        }""",
        STREAMED,
    )
    assert same == [True]


def test_blocks_that_are_complete_keep_their_elements(modules: Page) -> None:
    kept = modules.evaluate(
        """() => {
          const view = new m.MarkdownView(() => {});
          view.update("first\\n\\nsecond\\n\\n```\\ncode", true);
          const [first, , pre] = view.node.children;
          const text = pre.querySelector("code").firstChild;
          view.update("first\\n\\nsecond\\n\\n```\\ncode and more", true);
          return [view.node.children[0] === first, pre.querySelector("code").firstChild === text, text.data];
        }"""
    )
    assert kept == [True, True, "code and more"]


@pytest.mark.parametrize(
    "text",
    [
        "> " * 20_000, "- " * 20_000, "*a " * 20_000, "a**" * 20_000, "[" * 20_000, "[a](" * 10_000, "`" * 20_000,
        "".join("`" * n + " " for n in range(1, 250)), "|" * 20_000 + "\n" + "|-" * 20_000,
        "https://" + "." * 20_000 + "a",
        "# " + " " * 20_000 + "x", "<http://" * 5_000, "  - x\n" * 5_000, "&" * 20_000, "\\" * 20_000, "~~a " * 10_000,
        "](" * 10_000, "![a](b" * 5_000, "_a_" * 10_000, "***a** b* " * 5_000,
    ],
    ids=range(20),
)  # fmt: skip
@pytest.mark.parametrize("is_open", [False, True])
def test_no_text_keeps_the_page_busy(modules: Page, text: str, is_open: bool) -> None:
    """A limit that only super-linear work could pass: each takes some milliseconds, but with the square, a minute."""
    took = modules.evaluate(
        "([text, isOpen]) => { const t = performance.now(); m.html(text, isOpen); return performance.now() - t; }",
        [text, is_open],
    )
    assert took < 10_000


def test_hostile_text_stays_text(browser: Browser, demo: LiveServer) -> None:
    """In messages of both sides, titles and names, by way of a file of chats."""
    evil = '<img src=x onerror="alert(1)"><script>alert(2)</script>[x](javascript:alert(3)) ```<svg onload=alert(4)>'
    messages = [
        {"id": "a", "parent": None, "role": "user", "content": evil},
        {
            "id": "b",
            "parent": "a",
            "role": "assistant",
            "content": evil,
            "note": evil,
            "stats": {"tokens": evil},
        },
        {"id": "b", "parent": "b", "role": "assistant", "content": "its own parent"},
        {"id": "c", "parent": "nowhere", "role": "user", "content": "lost"},
        {"id": "d", "parent": "b", "role": "system", "content": "no such role"},
    ]
    chats = {
        "conversations": [
            {"id": "1", "title": evil, "leaf": "c", "messages": messages},
            None,
            {"messages": 3},
            7,
        ]
    }
    with opened(browser, demo.url) as (page, _):
        wait_until_ready(page)
        opened_dialogs: list[Any] = []
        page.on("dialog", lambda dialog: opened_dialogs.append(dialog))
        file = {"name": "x.json", "mimeType": "application/json", "buffer": json.dumps(chats).encode()}
        page.set_input_files("#import-file", file)  # type: ignore[arg-type]
        page.wait_for_selector("text=1 chat imported.")
        page.click(".chat-title")
        page.wait_for_selector(".answer")
        assert page.locator(".message").count() == 2
        assert page.locator(".messages :is(img, script, iframe, svg[onload])").count() == 0
        assert page.locator(".messages a").count() == 0
        assert page.locator(".said").inner_text() == evil
        page.wait_for_timeout(200)
        assert opened_dialogs == []
