"""What the chat page says, and does, when something fails: keys, queues, limits, connections, storage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.browser import ask, never_ends, opened, wait_for_answer, wait_until_ready
from tests.support.live_server import WAIT_S, LiveServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

REFUSED = "Failed to load resource"
"""How Chromium's console begins what it says about every answer that is an error."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Starts servers, and stops those that still run."""
    started: list[LiveServer] = []

    def start(model: Path | str, *flags: str, **variables: str) -> LiveServer:
        live = LiveServer(model, tmp_path / f"log{len(started)}", *flags, **variables)
        started.append(live)
        return live.wait_until_ready()

    yield start
    for live in started:
        live.stop()


def note(page: Page) -> str:
    page.wait_for_selector(".answer.failed .note")
    return page.locator(".answer.failed .note").inner_text()


def test_the_key_is_asked_for_and_kept_for_this_tab_only(
    browser: Browser, start: Callable[..., LiveServer]
) -> None:
    live = start("demo", LLORCH_API_KEY="sesame")
    with opened(browser, live.url) as (page, watch):
        watch.expected = (REFUSED,)
        page.wait_for_selector("#key-dialog[open]")
        page.keyboard.type("guess")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=The server does not know this key.")
        page.get_by_label("API key").fill("sesame")
        page.keyboard.press("Enter")
        wait_until_ready(page)
        ask(page, "Hello")
        assert wait_for_answer(page)
        assert page.evaluate("JSON.stringify(localStorage).includes('sesame')") is False
        assert page.evaluate("sessionStorage.getItem('llorch.key')") == "sesame"
        page.reload()
        wait_until_ready(page)
        page.click("#open-settings")
        page.click("text=Forget the key")
        page.keyboard.press("Escape")
        ask(page, "And then?")
        page.wait_for_selector("#key-dialog[open]")
        page.click("#key-dialog >> text=Cancel")
        assert note(page) == "The server asks for an API key."
        page.click("text=Try again >> visible=true")
        page.get_by_label("API key").fill("sesame")
        page.keyboard.press("Enter")
        assert wait_for_answer(page, 2)


def test_a_full_queue_is_waited_for(
    browser: Browser, start: Callable[..., LiveServer], long_model: Path
) -> None:
    live = start(long_model, "-np", "1", "--max-waiting", "0")
    body = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}
    with opened(browser, live.url) as (page, watch):
        watch.expected = (REFUSED,)
        wait_until_ready(page)
        never_ends(page)
        with live.stream("/generate", json=body) as other:
            lines = other.iter_lines()  # kept: without it the client would leave
            assert next(lines)
            ask(page, "Is there a place?")
            page.wait_for_selector("text=The server is busy. Next try in")
        page.wait_for_selector(".answer .markdown:not(:empty)")
        page.keyboard.press("Escape")
        page.wait_for_selector(".answer:not(.growing)")


def test_waiting_can_be_stopped(browser: Browser, start: Callable[..., LiveServer], long_model: Path) -> None:
    live = start(long_model, "-np", "1", "--max-waiting", "0")
    body = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}
    with opened(browser, live.url) as (page, watch), live.stream("/generate", json=body) as other:
        watch.expected = (REFUSED,)
        lines = other.iter_lines()
        assert next(lines)
        wait_until_ready(page)
        ask(page, "Is there a place?")
        page.wait_for_selector("text=The server is busy. Next try in")
        page.click("#stop")
        page.wait_for_selector(".answer:not(.growing)")
        assert page.locator(".answer .note").inner_text() == "Stopped."


@pytest.mark.parametrize("words", [2_000, 12_000, 400_000], ids=["context", "characters", "body"])
def test_a_chat_that_is_too_long_says_so(browser: Browser, demo: LiveServer, words: int) -> None:
    with opened(browser, demo.url) as (page, watch):
        watch.expected = (REFUSED,)
        wait_until_ready(page)
        ask(page, "fox " * words)
        assert note(page).startswith("This chat is too long for the model")
        assert page.locator("#send").is_visible()


def test_a_lost_connection_keeps_the_text_and_the_page_recovers(
    browser: Browser, start: Callable[..., LiveServer], long_model: Path
) -> None:
    live = start(long_model)
    with opened(browser, live.url) as (page, watch):
        watch.expected = (REFUSED,)
        wait_until_ready(page)
        never_ends(page)
        ask(page, "Hello")
        page.wait_for_selector(".answer .markdown:not(:empty)")
        live.process.kill()
        assert "connection" in note(page)
        assert page.locator(".answer .markdown").inner_text() != ""
        page.wait_for_selector("text=no connection, trying again…")
        start(long_model, "--port", str(live.port))
        wait_until_ready(page)
        page.click("text=Try again >> visible=true")
        page.wait_for_selector("text=2 / 2", state="attached")
        page.wait_for_selector(".answer .markdown:not(:empty)")
        page.keyboard.press("Escape")
        page.wait_for_selector(".answer:not(.growing)")


def test_a_model_that_is_not_ready_says_what_it_does(browser: Browser, demo: LiveServer) -> None:
    with opened(browser, demo.url) as (page, watch):
        watch.expected = (REFUSED,)
        wait_until_ready(page)
        stages = ["ready", "compiling", "loading"]  # the last until the page has shown it

        def answer(route: object) -> None:
            if stages[-1] == "ready":
                route.fallback()  # type: ignore[attr-defined]
            else:
                route.fulfill(status=503, json={"stage": stages[-1]})  # type: ignore[attr-defined]

        page.route("**/ready", answer)
        page.reload()
        page.wait_for_selector("text=the model is loading…")
        stages.pop()
        page.wait_for_selector("text=compiling for this CPU…")
        stages.pop()
        wait_until_ready(page)
        assert page.locator("#model-state").inner_text() == ""


FULL = """IDBObjectStore.prototype.put = () => { throw new DOMException("full", "QuotaExceededError"); };"""
FORBIDDEN = """IDBFactory.prototype.open = () => { throw new DOMException("no", "SecurityError"); };
Storage.prototype.setItem = Storage.prototype.getItem = () => { throw new DOMException("no", "SecurityError"); };"""


@pytest.mark.parametrize(
    ("script", "words"),
    [(FULL, "The browser has no room for more chats"), (FORBIDDEN, "This browser forbids storage")],
    ids=["full", "forbidden"],
)
def test_a_browser_that_keeps_nothing_still_chats(
    browser: Browser, demo: LiveServer, script: str, words: str
) -> None:
    with opened(browser, demo.url) as (page, _):
        page.add_init_script(script)
        page.reload()
        wait_until_ready(page)
        ask(page, "Hello")
        assert wait_for_answer(page)
        assert words in page.locator("#notice").inner_text()
        page.click("[aria-label='Close the notice']")
        assert page.locator("#notice").is_hidden()


def test_a_server_that_stops_ends_the_answer_with_words(
    browser: Browser, start: Callable[..., LiveServer], long_model: Path
) -> None:
    live = start(long_model, "--shutdown-grace-s", "0.5")
    with opened(browser, live.url) as (page, watch):
        watch.expected = (REFUSED,)
        wait_until_ready(page)
        never_ends(page)
        ask(page, "Hello")
        page.wait_for_selector(".answer .markdown:not(:empty)")
        stopping = threading.Thread(target=live.stop)
        stopping.start()
        page.wait_for_selector("text=The server stopped before the answer was complete.")
        stopping.join(WAIT_S)


def test_nothing_that_was_asked_stays_on_the_server_when_the_page_is_closed(
    browser: Browser, start: Callable[..., LiveServer], long_model: Path
) -> None:
    live = start(long_model)
    with opened(browser, live.url) as (page, _):
        wait_until_ready(page)
        never_ends(page)
        ask(page, "Hello")
        page.wait_for_selector(".answer .markdown:not(:empty)")
    live.wait_for_log("client left")
    assert httpx.get(f"{live.url}/slots", timeout=WAIT_S).status_code == 200
