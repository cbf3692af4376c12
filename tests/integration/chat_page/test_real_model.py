"""The page with a real instruct model: a question, a system prompt, a second turn out of the cache."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import ask, opened, shoot, wait_for_answer, wait_until_ready
from tests.support.live_server import LiveServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.smollm2]


SYSTEM = "You answer questions about geography."
QUESTION = "What is the capital of France?"


def answer_of(live: LiveServer) -> str:
    """What the API answers without the page; no Markdown, it is hoped, is in it."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    answer = live.post(
        "/v1/chat/completions", json={"messages": messages, "temperature": 0, "max_tokens": 100}
    )
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


@pytest.fixture(scope="module")
def live(browser: Browser, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    log = tmp_path_factory.mktemp("smollm2") / "log"
    live = LiveServer(smollm2, log, "-c", "1024", "--alias", "SmolLM2 135M").wait_until_ready()
    yield live
    assert live.stop() == 0


def test_two_questions_to_smollm2(browser: Browser, live: LiveServer) -> None:
    with opened(browser, live.url) as (page, _):
        wait_until_ready(page)
        assert page.locator("#model-name").inner_text() == "SmolLM2 135M"
        assert "1,024 tokens" in page.locator("#welcome-text").inner_text()
        page.click("#open-settings")
        page.get_by_label("Temperature").fill("0")
        page.get_by_label("Max tokens").fill("100")
        page.get_by_label("System prompt", exact=True).fill(SYSTEM)
        page.click("#settings >> text=Save")
        ask(page, QUESTION)
        shown = wait_for_answer(page)
        assert shown.split() == answer_of(live).split()
        ask(page, "Name three things to see there, as a list.")
        wait_for_answer(page, 2)
        stats = page.locator(".answer .stats").last.inner_text()
        found = re.search(r"(\d+) of (\d+) prompt tokens cached", stats)
        assert found, stats
        cached, prompt = map(int, found.groups())
        assert prompt / 2 < cached < prompt
        shoot(page, "desktop-light-smollm2")
