"""Stop strings with hold-back, and text in whole characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.model_files import open_tokenizer
from llorch.text.detokenizer import Detokenizer, StopStrings, TextStream
from llorch.text.tokenizer import Tokenizer
from tests.support.tiny_models import N_SPECIAL


def run(stop: list[str], pieces: list[str]) -> tuple[list[str], str | None]:
    """What is given out after each piece and at the end, and the stop string found."""
    strings = StopStrings(stop)
    out = []
    for piece in pieces:
        out.append(strings.push(piece))
        if strings.matched is not None:
            return out, strings.matched
    return [*out, strings.finish()], None


def test_without_stop_strings_everything_passes() -> None:
    assert run([], ["a", "", "b"]) == (["a", "", "b", ""], None)


def test_text_is_cut_before_the_stop_string() -> None:
    assert run(["END"], ["abcENDdef"]) == (["abc"], "END")


def test_a_beginning_of_a_stop_string_is_held_back_until_it_is_clear() -> None:
    assert run(["END"], ["abE", "N", "D"]) == (["ab", "", ""], "END")
    assert run(["END"], ["abE", "N", "x"]) == (["ab", "", "ENx", ""], None)
    assert run(["END"], ["abE", "N"]) == (["ab", "", "EN"], None)


def test_the_longest_possible_beginning_is_held_back() -> None:
    assert run(["aab"], ["aaa", "b"]) == (["a", ""], "aab")
    assert run(["\n\nUser:", "\n\n\n"], ["hi\n", "\n", "U", "s", "x"]) == (
        ["hi", "", "", "", "\n\nUsx", ""],
        None,
    )


def test_the_stop_string_that_is_complete_first_wins() -> None:
    assert run(["bcd", "abcde"], ["xabcdef"]) == (["xa"], "bcd")
    assert run(["b", "ab"], ["xab"]) == (["x"], "ab")  # they end together: the longer one
    assert run(["ab", "b"], ["xa", "b"]) == (["x", ""], "ab")


def test_a_stop_string_at_the_very_start_leaves_nothing() -> None:
    assert run(["a"], ["abc"]) == ([""], "a")


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return open_tokenizer(tiny_model)


def byte_ids(text: str) -> list[int]:
    return [N_SPECIAL + byte for byte in text.encode()]


def test_characters_are_given_out_whole(tokenizer: Tokenizer) -> None:
    stream = TextStream(Detokenizer(tokenizer, [1, N_SPECIAL]), [])
    assert [stream.push(i) for i in byte_ids("é€")] == ["", "é", "", "", "€"]
    assert stream.finish() == ""
    assert stream.text == "é€"


def test_half_a_character_at_the_end_is_a_replacement_character(tokenizer: Tokenizer) -> None:
    stream = TextStream(Detokenizer(tokenizer, [1, N_SPECIAL]), ["\ufffd\ufffd"])
    assert [stream.push(i) for i in byte_ids("a€")[:-1]] == ["a", "", ""]
    assert stream.finish() == "\ufffd"
    assert stream.text == "a\ufffd"


def test_a_stop_string_is_found_across_bytes_and_never_given_out(tokenizer: Tokenizer) -> None:
    stream = TextStream(Detokenizer(tokenizer, [1, N_SPECIAL]), ["€!"])
    assert "".join(stream.push(i) for i in byte_ids("x€€!")) == "x€"
    assert stream.matched_stop == "€!"
    assert stream.finish() == ""
    assert stream.text == "x€"
