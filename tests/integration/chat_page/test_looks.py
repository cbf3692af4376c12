"""How the page looks: light, dark and phone, with an answer that has everything; `PAGE_SHOTS` keeps the pictures.

What can be measured is: contrast of every text, nothing wider than the screen, buttons large enough for fingers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import (
    ask,
    faults_of,
    never_ends,
    opened,
    shoot,
    stop,
    wait_for_answer,
    wait_until_ready,
    wait_until_still,
)
from tests.support.live_server import LiveServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
ANSWER = """Foxes are small *omnivores* of the dog family. The **red fox** lives nearly everywhere in the north.

## What they eat

1. Mice and voles, which they hear under snow
2. Berries and windfall in autumn
   - also beetles
   - and `earthworms`

| Species | Weight | Home |
|---|---:|---|
| Red fox | 8 kg | fields, towns |
| Fennec | 1.2 kg | Sahara |

```python
def sound(animal: str) -> str:
    return {"fox": "?"}.get(animal, "silence")
```

> Nobody knows what the fox says.

More in [an encyclopedia](https://encyclopedia.example/fox). هذا نص عربي."""
CHATS = {
    "conversations": [
        {
            "id": str(i), "title": title, "updated": 1_700_000_000_000 - i, "messages": [
                {"id": "q", "parent": None, "role": "user", "content": title},
                {"id": "a0", "parent": "q", "role": "assistant", "content": "Another answer."},
                {"id": "a", "parent": "q", "role": "assistant", "content": ANSWER, "stats": {"tokens": 214,
                 "tokensPerSecond": 31.4, "promptTokens": 96, "cachedTokens": 64, "firstTokenMs": 180}},
                {"id": "q2", "parent": "a", "role": "user", "content": "And how long do they live?\nIn the wild."},
                {"id": "a2", "parent": "q2", "role": "assistant", "content": "Three to four years; up to fourteen.",
                 "note": "Ended at the limit of tokens.", "stats": {"tokens": 12, "tokensPerSecond": 30.8,
                 "promptTokens": 330, "cachedTokens": 320, "firstTokenMs": 90}},
            ],
        }
        for i, title in enumerate(["Tell me about foxes", "A poem for my grandmother", "Why is the sky blue?",
                                   "ما هي عاصمة المغرب؟", "A title that is much too long for the narrow list"])
    ]
}  # fmt: skip


@contextmanager
def furnished(browser: Browser, demo: LiveServer, **options: Any) -> Iterator[Page]:
    """The page with some chats, the first one shown."""
    with opened(browser, demo.url, **options) as (page, _):
        wait_until_ready(page)
        file = {"name": "x.json", "mimeType": "application/json", "buffer": json.dumps(CHATS).encode()}
        page.set_input_files("#import-file", file)  # type: ignore[arg-type]
        page.click("[aria-label='Close the notice']")
        if page.locator("#sidebar").get_attribute("inert") is not None:
            page.click("#open-sidebar")
        page.click("text=Tell me about foxes")
        yield page


def check(page: Page) -> None:
    for name in ("contrast", "width", "size"):
        assert faults_of(page, name) == [], name


def shoot_parts(page: Page, name: str) -> None:
    """Beginning and end of a chat, a chat in the making, the settings; each is checked."""
    page.mouse.move(5, 400)
    check(page)
    shoot(page, f"{name}-end")
    page.evaluate("document.getElementById('thread').scrollTop = 0")
    page.wait_for_selector("#to-end:visible")
    check(page)
    shoot(page, f"{name}-begin")
    page.click("#open-settings")
    check(page)
    shoot(page, f"{name}-settings")
    page.keyboard.press("Escape")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_every_text_can_be_read_and_nothing_is_too_wide(
    browser: Browser, demo: LiveServer, scheme: str, device: str
) -> None:
    options = PHONE if device == "phone" else {}
    with furnished(browser, demo, color_scheme=scheme, **options) as page:
        shoot_parts(page, f"{device}-{scheme}")
        if device == "phone":
            page.click("#open-sidebar")
            wait_until_still(page)
            check(page)
            shoot(page, f"phone-{scheme}-chats")
            page.click("#new-chat")
            wait_until_still(page)
        else:
            page.click("#new-chat")
        shoot(page, f"{device}-{scheme}-new")
        check(page)


def test_a_long_name_of_a_model_makes_no_phone_scroll_sideways(browser: Browser, tmp_path: Path) -> None:
    """Real files have long names, and what is said beside them is longest when something is wrong."""
    name = "Meta Llama 3.1 8B Instruct abliterated Q4_K_M (imatrix), for tests"
    live = LiveServer("demo", tmp_path / "log", "--alias", name).wait_until_ready()
    try:
        with opened(browser, live.url, **PHONE) as (page, _):
            wait_until_ready(page)
            assert page.inner_text("#model-name") == name
            check(page)
            for stage in ("model_changed", "lost", "compiling"):
                page.evaluate(
                    "async model => (await import('/page/model_view.js')).showModel(model)",
                    {"name": name, "stage": stage, "reason": ""},
                )
                check(page)
            shoot(page, "phone-light-long-name")
    finally:
        assert live.stop() == 0


def test_the_switch_goes_from_the_systems_theme_to_light_to_dark_and_stays(
    browser: Browser, demo: LiveServer
) -> None:
    with opened(browser, demo.url, color_scheme="dark") as (page, _):
        paper = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(paper)
        page.click("#theme")
        light = page.evaluate(paper)
        assert light != dark
        page.reload()
        assert page.evaluate(paper) == light
        page.click("#theme")
        assert page.evaluate(paper) == dark
        page.click("#theme")
        page.emulate_media(color_scheme="light")
        assert page.evaluate(paper) == light
        # The page hears of the system's change a moment after the style has followed it.
        page.wait_for_function("() => document.querySelector('meta[name=theme-color]').content === '#fbfaf7'")


def test_nothing_moves_for_those_who_do_not_want_it(browser: Browser, patient: LiveServer) -> None:
    with furnished(browser, patient, reduced_motion="reduce") as page:
        never_ends(page)
        ask(page, "A story")
        page.wait_for_selector(".answer.growing")
        assert page.evaluate("document.getAnimations().length") == 0
        stop(page)


def test_text_of_either_direction_begins_at_its_side(browser: Browser, demo: LiveServer) -> None:
    with furnished(browser, demo) as page:
        page.click("text=ما هي عاصمة المغرب؟")
        direction = "n => getComputedStyle(n).direction"
        assert page.locator(".said").first.evaluate(direction) == "rtl"
        assert page.locator(".said").last.evaluate(direction) == "ltr"
        page.fill("#prompt", "مرحبا")
        assert page.locator("#prompt").evaluate(direction) == "rtl"


def test_the_view_follows_the_answer_unless_the_reader_scrolls_up(browser: Browser, demo: LiveServer) -> None:
    with furnished(browser, demo, viewport={"width": 1000, "height": 500}) as page:
        thread = "const t = document.getElementById('thread');"
        gap = f"() => {{ {thread} return t.scrollHeight - t.scrollTop - t.clientHeight; }}"
        assert page.evaluate(gap) < 2
        ask(page, "A long story")
        wait_for_answer(page, 3)
        assert page.evaluate(gap) < 2
        page.evaluate("document.getElementById('thread').scrollTop = 50")
        page.click("[aria-label='Answer again'] >> nth=-1")
        page.wait_for_selector("text=2 / 2 >> nth=-1")
        wait_for_answer(page, 3)
        page.wait_for_selector("#to-end", state="hidden")


def test_a_growing_answer_looks_like_one(browser: Browser, patient: LiveServer) -> None:
    with furnished(browser, patient) as page:
        never_ends(page)
        ask(page, "Once upon a time")
        page.wait_for_selector(".answer.growing .progress:has-text('tokens/s')")
        shoot(page, "desktop-light-growing")
        stop(page)
