"""The browser, and a server with the demo model, for all tests of one module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import launched, never_ends, opened, wait_until_ready
from tests.support.live_server import LiveServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def demo(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The demo model; asked for after the browser, so that a machine without one starts nothing."""
    live = LiveServer("demo", tmp_path_factory.mktemp("demo") / "log", "-np", "2").wait_until_ready()
    yield live
    assert live.stop() == 0


@pytest.fixture
def page(browser: Browser, demo: LiveServer) -> Iterator[Page]:
    """The page of the demo server in a profile of its own; it must not misbehave."""
    with opened(browser, demo.url) as (page, _):
        wait_until_ready(page)
        yield page


@pytest.fixture(scope="module")
def patient(
    browser: Browser, long_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server whose answers last as long as a test needs them: the demo's are over before a page has drawn twice."""
    log = tmp_path_factory.mktemp("patient") / "log"
    live = LiveServer(long_model, log, "-np", "2").wait_until_ready()
    yield live
    assert live.stop() == 0


@pytest.fixture
def endless(browser: Browser, patient: LiveServer) -> Iterator[Page]:
    """A page whose answers end when they are stopped."""
    with opened(browser, patient.url) as (page, _):
        wait_until_ready(page)
        never_ends(page)
        yield page


@pytest.fixture(scope="module")
def modules(browser: Browser, demo: LiveServer) -> Iterator[Page]:
    """A page that has the modules as `window.m`."""
    with opened(browser, demo.url) as (page, _):
        page.evaluate(
            """async () => {
              const [view, events, blocks, inline] = await Promise.all(["markdown_view", "sse", "markdown_blocks",
                "markdown_inline"].map(name => import(`/page/${name}.js`)));
              window.m = {...view, ...events, ...blocks, ...inline};
              m.html = (text, isOpen = false) => {
                const view = new m.MarkdownView(() => {});
                view.update(text, isOpen);
                for (const node of view.node.querySelectorAll("button, [tabindex]")) {
                  if (node.matches("button")) node.remove();
                  for (const name of ["tabindex", "role", "aria-label"]) node.removeAttribute(name);
                }
                for (const node of view.node.querySelectorAll("*")) {
                  for (const name of ["dir", "title", "target", "rel"]) node.removeAttribute(name);
                  if (!node.className) node.removeAttribute("class");
                }
                return view.node.innerHTML;
              };
            }"""
        )
        yield page
