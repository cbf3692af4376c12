from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llorch.errors import InputError
from llorch.formats.gguf.file import GGUFFile
from llorch.text.tokenizer import load_tokenizer
from llorch.text.vocab import TokenType
from tests.support.vocabularies import llama2_tokenizer, make_tokenizer

HELLO = 15043


def test_hello_is_bos_and_one_token() -> None:
    assert llama2_tokenizer().encode("Hello") == [1, HELLO]


def test_an_empty_text_is_bos_alone() -> None:
    tokenizer = llama2_tokenizer()
    assert tokenizer.encode("") == [1]
    assert tokenizer.encode("", add_bos=False) == []
    assert tokenizer.decode([]) == ""


def test_bos_and_eos_follow_the_file_unless_told_otherwise() -> None:
    tokenizer = make_tokenizer(["▁", "a"], overrides={"add_bos_token": False, "add_eos_token": True})
    assert tokenizer.encode("a") == [259, 260, 2]
    assert tokenizer.encode("a", add_bos=True) == [1, 259, 260, 2]
    assert tokenizer.encode("a", add_bos=False) == [259, 260]
    assert tokenizer.encode("a", add_bos=True, add_eos=False) == [1, 259, 260]


def test_special_tokens_in_a_text_stay_text_unless_parsed() -> None:
    tokenizer = llama2_tokenizer()
    plain = tokenizer.encode("Hello</s>", add_bos=False)
    assert 2 not in plain
    assert tokenizer.decode(plain) == "Hello</s>"
    assert tokenizer.encode("Hello</s>", add_bos=False, parse_special=True) == [HELLO, 2]


def test_each_text_after_a_special_token_gets_the_space_prefix() -> None:
    token_ids = llama2_tokenizer().encode("Hello</s>Hello", add_bos=False, parse_special=True)
    assert token_ids == [HELLO, 2, HELLO]


def test_a_text_that_begins_with_bos_does_not_get_a_second_one() -> None:
    tokenizer = llama2_tokenizer()
    assert tokenizer.encode("<s>Hello", parse_special=True) == [1, HELLO]
    assert tokenizer.encode("<s>Hello", parse_special=True, add_bos=False) == [1, HELLO]


def test_user_defined_tokens_are_always_recognised_the_longest_first() -> None:
    user_defined = [("aa", TokenType.USER_DEFINED), ("aab", TokenType.USER_DEFINED)]
    tokenizer = make_tokenizer(["▁", "a", "b"], special=user_defined, overrides={"add_space_prefix": False})
    pieces = [tokenizer.piece(i) for i in tokenizer.encode("aaaabaab", add_bos=False)]
    assert pieces == ["aa", "aab", "aab"]


def test_a_special_token_is_not_found_inside_another() -> None:
    tokenizer = make_tokenizer(["▁"], special=[("<s><s>", TokenType.CONTROL)])
    double = tokenizer.vocab.n_vocab - 1
    token_ids = tokenizer.encode("<s><s><s>", add_bos=False, parse_special=True)
    assert token_ids == [double, 1]


def test_a_special_token_is_found_right_behind_a_longer_one_that_overlaps_its_first_place() -> None:
    user_defined = [("bba", TokenType.USER_DEFINED), ("aaa", TokenType.USER_DEFINED)]
    tokenizer = make_tokenizer(special=user_defined, overrides={"add_space_prefix": False})
    pieces = [tokenizer.piece(i) for i in tokenizer.encode("bbaaaa", add_bos=False)]
    assert pieces == ["bba", "aaa"]


def test_control_tokens_are_invisible_unless_asked_for() -> None:
    tokenizer = llama2_tokenizer()
    assert tokenizer.decode([1, HELLO, 2, 0]) == "Hello"
    assert tokenizer.decode([1, HELLO, 2, 0], special=True) == "<s>Hello</s><unk>"


def test_the_space_prefix_is_taken_away_once_and_only_at_the_beginning() -> None:
    tokenizer = llama2_tokenizer()
    assert tokenizer.decode([HELLO, HELLO]) == "Hello Hello"
    assert tokenizer.decode(tokenizer.encode("  two spaces")) == "  two spaces"


def test_a_continuation_keeps_its_leading_space() -> None:
    tokenizer = llama2_tokenizer()
    assert tokenizer.decode([HELLO], prompt_ids=[1, HELLO]) == " Hello"
    assert tokenizer.decode([HELLO], prompt_ids=[1]) == "Hello"


def test_without_space_prefix_nothing_is_added_or_taken_away() -> None:
    tokenizer = make_tokenizer(["▁", "a", "▁a"], overrides={"add_space_prefix": False})
    assert tokenizer.encode("a", add_bos=False) == [260]
    assert tokenizer.decode([261]) == " a"


def test_a_user_defined_token_is_shown_as_it_is() -> None:
    tokenizer = make_tokenizer(["▁", "a"], special=[("  ", TokenType.USER_DEFINED)])
    assert tokenizer.decode([261]) == "  "


def test_unused_and_undefined_tokens_show_nothing() -> None:
    tokenizer = make_tokenizer(["a"], special=[("x", TokenType.UNUSED), ("y", TokenType.UNDEFINED)])
    assert tokenizer.decode([259, 260, 261], special=True) == "a"


def test_token_bytes_may_be_a_part_of_a_character() -> None:
    tokenizer = llama2_tokenizer()
    assert tokenizer.token_bytes(3 + 0xE2) == b"\xe2"
    assert tokenizer.token_bytes(HELLO) == b" Hello"
    assert tokenizer.token_bytes(1) == b""
    assert tokenizer.token_bytes(1, special=True) == b"<s>"


def test_pieces_are_spelled_as_in_the_vocabulary() -> None:
    tokenizer = llama2_tokenizer()
    assert [tokenizer.piece(i) for i in (1, 13, HELLO)] == ["<s>", "<0x0A>", "▁Hello"]


def test_broken_bytes_become_replacement_characters() -> None:
    tokenizer = llama2_tokenizer()
    assert tokenizer.decode([3 + 0xFF, HELLO, 3 + 0xE2, 3 + 0x82]) == "\ufffd Hello\ufffd"


def test_is_eog_knows_the_end() -> None:
    tokenizer = llama2_tokenizer()
    assert tokenizer.is_eog(2)
    assert not tokenizer.is_eog(HELLO)


@pytest.mark.parametrize("token_id", [-1, 32_000, 2**40])
def test_ids_outside_the_vocabulary_are_refused(token_id: int) -> None:
    tokenizer = llama2_tokenizer()
    for call in (tokenizer.piece, tokenizer.token_bytes):
        with pytest.raises(InputError, match="outside the vocabulary"):
            call(token_id)
    with pytest.raises(InputError, match=str(token_id)):
        tokenizer.decode([token_id])


@pytest.mark.parametrize("text", ["\ud800", "abc\udfff", "\ude00\ud83d"])
def test_lone_surrogates_are_refused_without_echoing_the_text(text: str) -> None:
    with pytest.raises(InputError, match=r"lone surrogate U\+D[89A-F]") as caught:
        llama2_tokenizer().encode(text)
    assert "abc" not in str(caught.value)
    str(caught.value).encode()


def test_threads_share_a_tokenizer(models_dir: Path) -> None:
    text = (models_dir / "wiki.test.raw").read_bytes()[:100_000].decode(errors="ignore")
    fresh = load_tokenizer(GGUFFile(models_dir / "ggml-vocab-llama-spm.gguf").metadata)
    expected = llama2_tokenizer().encode(text)
    with ThreadPoolExecutor(4) as pool:
        encoded = list(pool.map(fresh.encode, [text] * 8))
        decoded = list(pool.map(fresh.decode, encoded))
    assert all(token_ids == expected for token_ids in encoded)
    assert all(result == text for result in decoded)
