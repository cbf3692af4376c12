from __future__ import annotations

import pytest

from llorch.errors import InputError
from llorch.text.detokenizer import Detokenizer
from tests.support.vocabularies import llama2_tokenizer

HELLO = 15043


def byte_ids(data: bytes) -> list[int]:
    return [3 + byte for byte in data]


def test_a_character_appears_when_its_last_byte_has_arrived() -> None:
    detokenizer = Detokenizer(llama2_tokenizer())
    assert [detokenizer.push(i) for i in byte_ids("😀".encode())] == ["", "", "", "😀"]
    assert detokenizer.finish() == ""


def test_emoji_joined_from_several_characters_arrive_complete() -> None:
    text = "👩‍👩‍👧‍👦 and 🏳️‍🌈!"
    tokenizer = llama2_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    parts = [detokenizer.push(i) for i in tokenizer.encode(text)]
    assert "".join(parts) + detokenizer.finish() == text
    assert not any("\ufffd" in part for part in parts)


@pytest.mark.parametrize("byte", [0x80, 0xBF, 0xC0, 0xC1, 0xF5, 0xFF])
def test_bytes_that_can_begin_no_character_are_not_held_back(byte: int) -> None:
    detokenizer = Detokenizer(llama2_tokenizer())
    assert [detokenizer.push(3 + byte) for _ in range(5)] == ["\ufffd"] * 5
    assert detokenizer.finish() == ""


def test_a_character_that_breaks_off_is_replaced_when_the_next_token_shows_it() -> None:
    detokenizer = Detokenizer(llama2_tokenizer())
    assert [detokenizer.push(i) for i in byte_ids(b"\xe2\x96")] == ["", ""]
    assert detokenizer.push(HELLO) == "\ufffd Hello"


def test_finish_gives_what_was_held_back() -> None:
    detokenizer = Detokenizer(llama2_tokenizer())
    detokenizer.push(3 + 0xF0)
    assert detokenizer.finish() == "\ufffd"
    assert detokenizer.finish() == ""


def test_a_stream_begins_without_the_space_prefix_and_a_continuation_with_it() -> None:
    tokenizer = llama2_tokenizer()
    assert Detokenizer(tokenizer).push(HELLO) == "Hello"
    assert Detokenizer(tokenizer, prompt_ids=[1]).push(HELLO) == "Hello"
    assert Detokenizer(tokenizer, prompt_ids=[1, HELLO]).push(HELLO) == " Hello"


def test_control_tokens_do_not_use_up_the_beginning() -> None:
    detokenizer = Detokenizer(llama2_tokenizer())
    assert [detokenizer.push(i) for i in (1, HELLO, HELLO)] == ["", "Hello", " Hello"]


def test_control_tokens_are_shown_when_asked_for() -> None:
    detokenizer = Detokenizer(llama2_tokenizer(), shown_ids=range(3))
    assert [detokenizer.push(i) for i in (1, HELLO, 2)] == ["<s>", "Hello", "</s>"]


def test_a_control_token_inside_a_character_does_not_break_it() -> None:
    detokenizer = Detokenizer(llama2_tokenizer())
    first, second = byte_ids("é".encode())
    assert [detokenizer.push(i) for i in (first, 1, second)] == ["", "", "é"]


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(InputError, match="outside the vocabulary"):
        Detokenizer(llama2_tokenizer()).push(32_000)
    with pytest.raises(InputError, match="outside the vocabulary"):
        Detokenizer(llama2_tokenizer(), prompt_ids=[1, -1])


def test_single_control_tokens_can_be_shown() -> None:
    tokenizer = llama2_tokenizer()
    detokenizer = Detokenizer(tokenizer, shown_ids={2})
    assert [detokenizer.push(1), detokenizer.push(2)] == ["", "</s>"]
