"""What was said: asked, answered, taken back, with or without a system message."""

from __future__ import annotations

import pytest

from llorch.cli.dialogue.conversation import Conversation
from llorch.errors import InputError


def told(conversation: Conversation) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in conversation.messages]


def two_exchanges(system: str = "") -> Conversation:
    conversation = Conversation(system)
    for question, answer in (("a", "b"), ("c", "d")):
        conversation.ask(question)
        conversation.keep_answer(answer)
    return conversation


def test_the_system_message_comes_first_and_can_be_changed_at_any_time() -> None:
    conversation = two_exchanges("be brief")
    assert told(conversation)[0] == "system: be brief"
    conversation.system = "be long"
    assert told(conversation) == ["system: be long", "user: a", "assistant: b", "user: c", "assistant: d"]
    conversation.system = ""
    assert told(conversation)[0] == "user: a"
    conversation.system = "again"
    assert told(conversation)[:2] == ["system: again", "user: a"]


def test_an_answer_can_be_taken_back_alone_or_with_its_question() -> None:
    conversation = two_exchanges("s")
    assert [message["content"] for message in conversation.take_back_answer()] == ["d"]
    assert conversation.waits_for_answer
    assert conversation.take_back_answer() == []
    assert len(conversation.take_back_exchange()) == 1
    assert told(conversation) == ["system: s", "user: a", "assistant: b"]
    assert not conversation.waits_for_answer


def test_there_is_nothing_to_take_back_from_an_empty_conversation() -> None:
    conversation = Conversation("s")
    with pytest.raises(InputError, match="nothing was said yet"):
        conversation.take_back_exchange()
    with pytest.raises(InputError, match="nothing was said yet"):
        conversation.take_back_answer()
    assert told(conversation) == ["system: s"]


@pytest.mark.parametrize("system", ["", "s"])
def test_clearing_keeps_only_the_system_message(system: str) -> None:
    conversation = two_exchanges(system)
    conversation.clear()
    assert conversation.system == system
    assert len(conversation.messages) == bool(system)
