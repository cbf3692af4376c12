"""What people do with the chat page, in a real Chromium: send, stop, answer again, edit, and come back later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import ask, never_ends, opened, stop, wait_for_answer, wait_until_ready
from tests.support.live_server import WAIT_S, LiveServer, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


def requests_of(page: Page) -> list[dict[str, Any]]:
    """Bodies of the chat requests that the page sends from now on."""
    bodies: list[dict[str, Any]] = []
    page.on(
        "request", lambda r: bodies.append(r.post_data_json) if r.url.endswith("/chat/completions") else None
    )
    return bodies


def settle(page: Page, **values: str) -> None:
    """Save settings by their labels."""
    page.click("#open-settings")
    for label, value in values.items():
        page.get_by_label(label.replace("_", " "), exact=True).fill(value)
    page.click("#settings >> text=Save")


def is_busy(server: LiveServer) -> bool:
    return any(slot["is_processing"] for slot in server.get("/slots").json())


def test_an_answer_comes_with_its_speed_and_the_second_one_uses_the_cache(page: Page) -> None:
    sent = requests_of(page)
    ask(page, "Once upon a time there was a fox")
    first = wait_for_answer(page)
    assert len(first) > 20
    stats = page.locator(".answer .stats")
    assert "tokens/s" in stats.inner_text()
    assert "of" in stats.inner_text()
    assert "prompt tokens cached" in stats.inner_text()
    ask(page, "And then?")
    wait_for_answer(page, 2)
    assert [message["role"] for message in sent[1]["messages"]] == ["user", "assistant", "user"]
    assert sent[1]["messages"][1]["content"].split() == first.split()
    assert sent[0]["stream"] is True


def test_the_text_grows_while_it_comes(endless: Page) -> None:
    endless.evaluate(
        """() => { window.lengths = new Set();
        new MutationObserver(() => lengths.add(document.querySelector(".answer .markdown")?.textContent.length))
        .observe(document.getElementById("messages"), {childList: true, subtree: true, characterData: true}); }"""
    )
    ask(endless, "A long story")
    endless.wait_for_function("() => lengths.size > 5")
    stop(endless)


@pytest.mark.parametrize("by", ["Escape", "button"])
def test_stop_ends_the_generation_on_the_server(
    browser: Browser, long_model: Path, tmp_path: Path, by: str
) -> None:
    live = LiveServer(long_model, tmp_path / "log").wait_until_ready()
    try:
        with opened(browser, live.url) as (page, _):
            wait_until_ready(page)
            never_ends(page)
            ask(page, "Hello")
            page.wait_for_selector(".answer.growing")
            page.wait_for_function(
                "() => document.querySelector('.answer .progress').textContent.includes('tokens/s')"
            )
            assert is_busy(live)
            if by == "Escape":
                page.keyboard.press("Escape")
            else:
                page.click("#stop")
            page.wait_for_selector(".answer:not(.growing)")
            assert page.locator(".answer .note").inner_text() == "Stopped."
            assert "tokens/s" in page.locator(".answer .stats").inner_text()
            assert any(not is_busy(live) for _ in wait_until(WAIT_S))
            live.wait_for_log("client left|abort")
            assert page.locator("#send").is_visible()
            assert page.evaluate("document.activeElement.id") == "prompt"
    finally:
        assert live.stop() == 0


def test_another_answer_is_another_version_and_the_first_one_stays(page: Page) -> None:
    sent = requests_of(page)
    ask(page, "A fox and a goose")
    first = wait_for_answer(page)
    page.click("[aria-label='Answer again']")
    page.wait_for_selector("text=2 / 2")
    second = wait_for_answer(page)
    assert sent[0]["messages"] == sent[1]["messages"]
    page.click("[aria-label='Earlier version']")
    page.wait_for_selector("text=1 / 2")
    assert page.locator(".answer .markdown").inner_text() == first
    page.click("[aria-label='Later version']")
    assert page.locator(".answer .markdown").inner_text() == second


def test_an_edited_message_is_answered_anew_and_what_followed_is_another_version(page: Page) -> None:
    ask(page, "The cat")
    wait_for_answer(page)
    ask(page, "The end?")
    wait_for_answer(page, 2)
    sent = requests_of(page)
    page.locator(".question").first.hover()
    page.locator("[aria-label='Edit']").first.click()
    editor = page.get_by_label("Edit the message")
    assert editor.input_value() == "The cat"
    editor.fill("The dog")
    editor.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.answer').length === 1")
    wait_for_answer(page)
    assert [m["content"] for m in sent[0]["messages"]] == ["The dog"]
    page.locator(".question").first.hover()
    page.click(".question [aria-label='Earlier version']")
    assert page.locator(".question .said").all_inner_texts() == ["The cat", "The end?"]


def test_an_edit_waits_for_the_running_answer(endless: Page) -> None:
    page = endless
    ask(page, "The cat")
    page.wait_for_selector(".answer .markdown:not(:empty)")
    stop(page)
    page.locator(".question").hover()
    page.click("[aria-label='Edit']")
    page.get_by_label("Edit the message").fill("The dog")
    ask(page, "A long story")
    page.wait_for_selector(".answer.growing")
    page.get_by_label("Edit the message").press("Enter")
    page.wait_for_selector("text=Wait for the answer, or stop it.")
    assert page.get_by_label("Edit the message").input_value() == "The dog"
    page.click("#stop")
    page.wait_for_selector(".answer.growing", state="detached")
    page.get_by_label("Edit the message").press("Enter")
    page.wait_for_selector("text=2 / 2", state="attached")
    stop(page)


def test_escape_leaves_a_message_as_it_was(page: Page) -> None:
    ask(page, "The cat")
    wait_for_answer(page)
    page.locator(".question").hover()
    page.click("[aria-label='Edit']")
    page.get_by_label("Edit the message").fill("Something else")
    page.keyboard.press("Escape")
    assert page.locator(".said").inner_text() == "The cat"
    assert page.evaluate("document.activeElement.ariaLabel") == "Edit"


def test_settings_and_the_system_prompt_are_sent_and_kept(page: Page) -> None:
    sent = requests_of(page)
    values = {
        "Temperature": "0",
        "Top_p": "0,9",
        "Top_k": "7",
        "Min_p": "0.1",
        "Max_tokens": "5",
        "Seed": "42",
    }
    settle(page, System_prompt="Be brief.", **values)
    ask(page, "Hello")
    wait_for_answer(page)
    expected = {"temperature": 0, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "max_tokens": 5, "seed": 42}
    assert {name: sent[0].get(name) for name in expected} == expected
    assert sent[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert page.locator(".answer .note").inner_text() == "Ended at the limit of tokens."
    page.reload()
    wait_until_ready(page)
    page.click("#new-chat")
    page.click("#open-settings")
    assert page.get_by_label("Temperature").input_value() == "0"
    assert page.get_by_label("System prompt", exact=True).input_value() == "Be brief."
    page.click("text=Reset sampling")
    page.click("#settings >> text=Save")
    ask(page, "Hello again")
    wait_for_answer(page)
    assert not expected.keys() & sent[1].keys()


def test_the_same_seed_gives_the_same_answer(page: Page) -> None:
    settle(page, Seed="3", Max_tokens="20")
    ask(page, "One day")
    first = wait_for_answer(page)
    page.click("[aria-label='Answer again']")
    page.wait_for_selector("text=2 / 2")
    assert wait_for_answer(page) == first


@pytest.mark.parametrize(
    ("label", "value"), [("Temperature", "3"), ("Top_k", "1.5"), ("Seed", "x"), ("Min_p", "-1")]
)
def test_a_setting_that_the_server_would_refuse_is_not_saved(page: Page, label: str, value: str) -> None:
    settle(page, **{label: value})
    field = page.get_by_label(label.replace("_", " "), exact=True)
    assert field.get_attribute("aria-invalid") == "true"
    assert "Expected" in page.locator(".field-error:visible").inner_text()
    assert page.evaluate("localStorage.getItem('llorch.sampling')") is None
    page.keyboard.press("Escape")
    page.wait_for_selector("#settings:not([open])", state="attached")


def test_chats_survive_a_reload_and_can_be_renamed_and_deleted(page: Page) -> None:
    ask(page, "First chat")
    first = wait_for_answer(page)
    page.click("#new-chat")
    ask(page, "Second chat")
    wait_for_answer(page)
    page.reload()
    wait_until_ready(page)
    assert page.locator(".chat-title").all_inner_texts() == ["Second chat", "First chat"]
    assert page.locator(".said").inner_text() == "Second chat"
    page.click("text=First chat")
    assert page.locator(".answer .markdown").inner_text() == first
    assert "tokens/s" in page.locator(".answer .stats").inner_text()
    page.locator(".chat-list li", has_text="First chat").hover()
    page.click("[aria-label='Rename First chat']")
    page.get_by_label("Name of the chat").fill("Foxes")
    page.keyboard.press("Enter")
    page.locator(".chat-list li", has_text="Second chat").hover()
    page.click("[aria-label='Delete Second chat']")
    page.click("#confirm >> text=Delete >> nth=-1")
    page.wait_for_function("() => document.querySelectorAll('.chat-title').length === 1")
    page.reload()
    wait_until_ready(page)
    assert page.locator(".chat-title").all_inner_texts() == ["Foxes"]
    assert page.title() == "Foxes · llorch"


def test_chats_can_be_taken_to_another_browser(
    page: Page, browser: Browser, demo: LiveServer, tmp_path: Path
) -> None:
    ask(page, "A story to take along")
    answer = wait_for_answer(page)
    page.click("#open-settings")
    with page.expect_download() as download:
        page.click("text=Export")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert (
        json.loads(file.read_text())["conversations"][0]["messages"][0]["content"] == "A story to take along"
    )
    with opened(browser, demo.url) as (other, _):
        wait_until_ready(other)
        other.set_input_files("#import-file", file)
        other.click("text=A story to take along")
        assert other.locator(".answer .markdown").inner_text() == answer
        other.set_input_files(
            "#import-file", {"name": "x.json", "mimeType": "application/json", "buffer": b"{"}
        )
        other.wait_for_selector("text=There are no chats in this file.")
        other.click("#open-settings")
        other.click("text=Delete all")
        other.click("#confirm-ok")
        other.wait_for_function("() => document.querySelectorAll('.chat-title').length === 0")


def test_an_answer_goes_on_while_another_chat_is_shown(endless: Page) -> None:
    page = endless
    settle(page, Max_tokens="2000")
    ask(page, "A long story about a bear")
    page.wait_for_selector(".answer.growing")
    page.click("#new-chat")
    assert page.locator(".message").count() == 0
    assert page.locator("#send").is_visible()
    page.wait_for_function("() => document.querySelectorAll('.running').length === 0")
    page.click(".chat-title")
    assert len(wait_for_answer(page)) > 20


def test_two_tabs_show_the_same_chats(page: Page, demo: LiveServer) -> None:
    other = page.context.new_page()
    other.goto(f"{demo.url}/")
    wait_until_ready(other)
    ask(page, "Seen in both")
    wait_for_answer(page)
    other.click("text=Seen in both")
    other.wait_for_selector(".answer .stats span")
    page.locator(".chat-list li").hover()
    page.click("[aria-label='Delete Seen in both']")
    page.click("#confirm-ok")
    other.wait_for_selector(".welcome:visible")
