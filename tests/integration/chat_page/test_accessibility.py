"""The page without a mouse, without a screen, with another way to write: keyboard, screen readers, IMEs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import ask, faults_of, stop, wait_for_answer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


def focused(page: Page) -> str:
    """What has the focus: its id, else its name."""
    found: str = page.evaluate("(n => n.id || n.ariaLabel || n.textContent)(document.activeElement)")
    return found.strip()


def test_everything_has_a_name_and_a_place(page: Page) -> None:
    ask(page, "Hello")
    wait_for_answer(page)
    for state in ("chat", "settings"):
        if state == "settings":
            page.click("#open-settings")
        assert faults_of(page, "names") == faults_of(page, "references") == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.lang") == "en"
    for landmark in ("navigation", "main", "banner", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1, landmark  # type: ignore[arg-type]
    levels = page.evaluate("[...document.querySelectorAll('main :is(h1, h2, h3)')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    assert page.get_by_role("article").count() == 2


def test_axe_finds_nothing(page: Page) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    ask(page, "Hello")
    wait_for_answer(page)
    for state in ("chat", "settings"):
        if state == "settings":
            page.click("#open-settings")
        found: Any = axe.Axe().run(page)
        assert [(v["id"], [n["html"][:150] for n in v["nodes"]]) for v in found.response["violations"]] == []


def test_a_chat_needs_no_mouse(page: Page) -> None:
    assert focused(page) == "prompt"
    page.keyboard.type("A fox")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and a goose")
    page.keyboard.press("Enter")
    assert page.locator(".said").inner_text() == "A fox\nand a goose"
    wait_for_answer(page)
    assert focused(page) == "prompt"
    order = []
    for _ in range(14):
        page.keyboard.press("Tab")
        order.append(focused(page))
    assert "send" in order
    page.focus("#prompt")
    backwards = []
    for _ in range(8):
        page.keyboard.press("Shift+Tab")
        backwards.append(focused(page))
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert backwards[:4] == ["Answer again", "Copy", "Edit", "Copy"]
    assert "open-settings" in backwards
    page.focus("[aria-label='Answer again']")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=2 / 2")
    wait_for_answer(page)


def test_the_first_tab_stop_leads_to_the_message_field(page: Page) -> None:
    stops = "[...document.querySelectorAll('a, button, input, textarea')].map(n => n.textContent)"
    assert page.evaluate(stops)[0] == "Skip to the message field"
    page.focus("text=Skip to the message field")
    assert page.locator(".skip").bounding_box()["y"] > 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert focused(page) == "prompt"


def test_dialogs_give_the_focus_back(page: Page) -> None:
    page.focus("#open-settings")
    page.keyboard.press("Enter")
    assert focused(page) == "system"
    page.keyboard.press("Escape")
    assert focused(page) == "open-settings"


def test_finished_answers_are_announced_once_and_tokens_are_not(page: Page) -> None:
    page.evaluate(
        """() => { window.said = [];
        new MutationObserver(() => said.push(document.getElementById("announcer").textContent))
          .observe(document.getElementById("announcer"), {childList: true, subtree: true}); }"""
    )
    ask(page, "Hello")
    answer = wait_for_answer(page)
    said = page.evaluate("said")
    assert said[0] == "The model answers."
    assert len(said) == 2
    assert said[1].split() == ["Answer:", *answer.split()]
    live = page.evaluate(
        "[...document.querySelectorAll('[aria-live], [role=log], [role=status], [role=alert]')].map(n => n.id)"
    )
    assert not any(page.locator(f"#{name} .message").count() for name in live if name)
    assert page.locator("#messages").get_attribute("aria-busy") == "false"


@pytest.mark.parametrize("how", [{"isComposing": True}, {"keyCode": 229}], ids=["Chromium", "Safari"])
def test_enter_that_ends_a_composition_does_not_send(page: Page, how: dict[str, Any]) -> None:
    """Safari ends the composition first and says by the code of the key that there was one."""
    page.fill("#prompt", "日本語")
    enter = """how => {
      const event = new KeyboardEvent("keydown", {key: "Enter", bubbles: true, cancelable: true, ...how});
      document.getElementById("prompt").dispatchEvent(event);
      return event.defaultPrevented;
    }"""
    assert page.evaluate(enter, how) is False
    assert page.locator(".message").count() == 0
    assert page.evaluate(enter, {}) is True
    assert page.locator(".said").inner_text() == "日本語"
    wait_for_answer(page)


def test_nothing_is_sent_twice_and_nothing_empty(endless: Page) -> None:
    page = endless
    page.press("#prompt", "Enter")
    page.fill("#prompt", "   ")
    page.press("#prompt", "Enter")
    assert page.locator(".message").count() == 0
    ask(page, "A long story")
    page.fill("#prompt", "Too early")
    page.press("#prompt", "Enter")
    assert page.locator(".question").count() == 1
    assert page.input_value("#prompt") == "Too early"
    stop(page)
    page.press("#prompt", "Enter")
    page.wait_for_function("() => document.querySelectorAll('.question').length === 2")
    stop(page)


def test_the_code_of_an_answer_can_be_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    message = {"id": "a", "parent": None, "role": "assistant", "content": "Look:\n\n```\na = 1\nb = 2\n```"}
    chat = json.dumps({"conversations": [{"messages": [message]}]})
    page.set_input_files(
        "#import-file", {"name": "x", "mimeType": "application/json", "buffer": chat.encode()}
    )
    page.click(".chat-title")
    page.click("[aria-label='Copy the code']")
    page.wait_for_selector("#announcer:has-text('Copied.')", state="attached")
    assert page.evaluate("navigator.clipboard.readText()") == "a = 1\nb = 2"
