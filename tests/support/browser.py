"""A real Chromium for the tests of the chat page, and what it must never do there.

Playwright drives the system's browser and downloads none. `tools/setup/browser.sh` installs both; without them the
tests are skipped, and say why.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HINT = "tools/setup/browser.sh installs them"
WAIT_MS = 100_000
"""Only a failing test waits so long."""
CHECKS = Path(__file__).with_name("page_checks.js")
SHOTS = "PAGE_SHOTS"
"""Names the folder for screenshots; without it none are kept."""


def find_chromium() -> str | None:
    """The program that `CHROMIUM` names, else the system's Chromium or Chrome."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason=f"Playwright is not installed ({HINT})")
    program = find_chromium()
    if program is None:
        pytest.skip(f"there is no Chromium ({HINT})")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What a page has done that it must not do: errors on the console, faults, requests to other hosts.

    Attributes:
        url: the server's; everything else is another host.
        faults: found so far.
        expected: beginnings of console errors that the test causes on purpose.
    """

    url: str
    faults: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def follow(self, context: BrowserContext) -> None:
        context.on("request", self._on_request)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.faults.append(f"uncaught: {error.error}"))

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", "blob:")):
            self.faults.append(f"asked {request.url}")

    def _on_console(self, message: Any) -> None:
        """Violations of the content security policy come here, too."""
        if message.type in ("error", "warning") and not message.text.startswith(self.expected or ("\0",)):
            self.faults.append(f"console: {message.text}")


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[tuple[Page, Watch]]:
    """The page of the server at `url` in a profile of its own; it must have behaved at the end."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    context.set_default_timeout(WAIT_MS)
    watch = Watch(url)
    watch.follow(context)
    try:
        page = context.new_page()
        page.goto(f"{url}/")
        yield page, watch
        assert watch.faults == []
    finally:
        context.close()


def wait_until_ready(page: Page) -> None:
    page.wait_for_selector("#model-dot[data-state=ready]")


def ask(page: Page, text: str) -> None:
    """Send a message by the keyboard."""
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")


def never_ends(page: Page) -> None:
    """Answers of this page go on to the end of the context, whatever the model says."""

    def go_on(route: Any) -> None:
        route.continue_(post_data={**route.request.post_data_json, "ignore_eos": True})

    page.route("**/v1/chat/completions", go_on)


def stop(page: Page) -> None:
    """End the running answer by the keyboard, and wait until the page shows that it has ended."""
    page.keyboard.press("Escape")
    page.wait_for_selector(".answer.growing", state="detached")


def wait_for_answer(page: Page, n: int = 1) -> str:
    """The text of the n-th answer shown, once it is complete."""
    page.wait_for_function(
        "n => { const all = document.querySelectorAll('.answer');"
        " return all.length >= n && !all[n - 1].classList.contains('growing'); }",
        arg=n,
    )
    return page.locator(".answer").nth(n - 1).locator(".markdown").inner_text()


def wait_until_still(page: Page) -> None:
    """Wait until everything that slides or fades in has done so."""
    page.wait_for_function(
        "() => document.getAnimations().every(one =>"
        " one.playState === 'finished' || one.effect.getComputedTiming().endTime === Infinity)"
    )


def faults_of(page: Page, check: str) -> list[str]:
    """What one of the checks in `page_checks.js` finds."""
    found: list[str] = page.evaluate(f"{CHECKS.read_text('utf-8')}.{check}()")
    return found


def shoot(page: Page, name: str) -> None:
    """Keep a screenshot, if there is a folder for them."""
    if folder := os.environ.get(SHOTS):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
