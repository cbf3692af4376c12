from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.vocabularies import llama2_tokenizer, llama_cpp_vectors, make_tokenizer, real_tokenizer

LONG_INPUT_S = 5.0
"""Seconds for 200 kB: they take about 0.3, and would take many minutes if the time were quadratic."""


def test_ids_equal_llama_cpp_on_its_47_vectors(models_dir: Path) -> None:
    tokenizer = llama2_tokenizer()
    vectors = llama_cpp_vectors(models_dir, "ggml-vocab-llama-spm.gguf")
    assert len(vectors) == 47
    for text, expected in vectors:
        assert tokenizer.encode(text, add_bos=False) == expected, text
        assert tokenizer.decode(expected) == text


def test_ids_equal_sentencepiece_on_the_whole_wikitext_test_file(model_path: Callable[[str], Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its SWIG types, on Python 3.12 and later
        sentencepiece = pytest.importorskip("sentencepiece")
    reference = sentencepiece.SentencePieceProcessor(str(model_path("tokenizer.model")))
    text = model_path("wiki.test.raw").read_bytes().decode()
    tokenizer = llama2_tokenizer()
    token_ids = tokenizer.encode(text, add_bos=False)
    assert token_ids == reference.encode(text)
    assert tokenizer.decode(token_ids) == text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("stories260K-f32.gguf", "Once upon a time", [1, 403, 407, 261, 378]),
        ("stories260K-f32.gguf", "é\n", [1, 410, 485, 13]),
        ("stories260K-f32.gguf", ' Lily said: "Hi!"\n', [1, 410, 317, 336, 467, 313, 440, 417, 443, 436, 13]),
        ("tinystories-656k-f32.gguf", "Once upon a time", [1, 80, 147, 201, 282, 57]),
        ("tinystories-656k-f32.gguf", ' Lily said: "Hi!"\n', [1, 80, 80, 303, 174, 1608, 5, 1158, 572]),
    ],
)
def test_ids_equal_llama_tokenize_on_small_vocabularies(name: str, text: str, expected: list[int]) -> None:
    assert real_tokenizer(name).encode(text) == expected


def test_the_best_score_merges_first() -> None:
    tokenizer = make_tokenizer(["bc", "ab", "a", "b", "c"], overrides={"add_space_prefix": False})
    assert [tokenizer.piece(i) for i in tokenizer.encode("abc", add_bos=False)] == ["a", "bc"]


def test_of_equal_scores_the_leftmost_merges_first() -> None:
    tokenizer = make_tokenizer(["aa", "a"], scores=[0, -1], overrides={"add_space_prefix": False})
    assert [tokenizer.piece(i) for i in tokenizer.encode("aaa", add_bos=False)] == ["aa", "a"]


def test_a_pair_that_regains_an_earlier_score_is_merged_once() -> None:
    pieces = ["▁", "bc", "bcd", "ab", "abc", "abcd"]
    tokenizer = make_tokenizer(pieces, scores=[9, 5, 4, 0, -1, 0], overrides={"add_space_prefix": False})
    assert [tokenizer.piece(i) for i in tokenizer.encode("abcd", add_bos=False)] == ["abcd"]


def test_a_character_without_piece_becomes_its_bytes() -> None:
    tokenizer = make_tokenizer(["▁", "a"])
    assert tokenizer.encode("a😀", add_bos=False) == [259, 260, *(3 + byte for byte in "😀".encode())]


def test_without_byte_tokens_a_run_of_unknown_characters_is_one_unknown_token() -> None:
    tokenizer = make_tokenizer(["▁", "a"], has_bytes=False)
    assert tokenizer.encode("éa日本a", add_bos=False) == [3, 0, 4, 0, 4]


def test_tinystories_without_byte_tokens_gives_the_ids_of_its_own_tokenizer_json() -> None:
    tokenizer = real_tokenizer("tinystories-656k-f32.gguf")
    assert tokenizer.encode("é日 x é", add_bos=False) == [80, 0, 80, 1841, 0]


def test_a_bare_byte_token_serves_where_the_byte_token_is_missing() -> None:
    tokens = [b"<unk>", b"<s>", b"</s>", "▁".encode(), b"\xc3", b"\xa9"]
    tokenizer = make_tokenizer(overrides={"tokens": tokens, "scores": None, "token_type": None})
    assert tokenizer.encode("é", add_bos=False) == [3, 4, 5]


def test_of_equal_pieces_the_last_one_is_used_and_each_can_be_decoded() -> None:
    tokenizer = make_tokenizer(["▁", "a", "a"])
    assert tokenizer.encode("a", add_bos=False) == [259, 261]
    assert tokenizer.decode([260, 261]) == "aa"


def test_pieces_that_reach_across_words_are_found() -> None:
    tokenizer = make_tokenizer(["▁", "a", "b", "a▁", "a▁b"])
    assert [tokenizer.piece(i) for i in tokenizer.encode("a b", add_bos=False)] == ["▁", "a▁b"]


@pytest.mark.parametrize("text", ["<s>", "</s>", "<unk>", "<0x0A>", "a<s>b"])
def test_text_never_becomes_a_control_unknown_or_byte_token_by_merging(text: str) -> None:
    chain = [text[:i] for i in range(2, len(text))]  # lets every prefix of the token be reached by merging
    tokenizer = make_tokenizer(["▁", *"<s>/unkab0xA", *chain])
    assert not {0, 1, 2, 13}.intersection(tokenizer.encode(text, add_bos=False))


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        " " * 200_000,
        "ab" * 100_000,
        "\n" * 200_000,
        "😀" * 50_000,
        "e\u0301" * 60_000,
        "".join(random.Random(0).choices("aeé日😀 \t▁thznm<>", k=100_000)),
        "".join(random.Random(1).choices("aeihnorst", k=200_000)),
    ],
    ids=["a", "space", "ab", "newline", "emoji", "combining", "mixed", "letters"],
)
def test_200_kilobytes_of_anything_take_no_time(text: str) -> None:
    tokenizer = llama2_tokenizer()
    start = time.thread_time()
    token_ids = tokenizer.encode(text)
    assert time.thread_time() - start < LONG_INPUT_S
    assert tokenizer.decode(token_ids) == text.replace("▁", " ")


def test_200_kilobytes_with_pieces_that_reach_across_words_take_no_time() -> None:
    tokenizer = real_tokenizer("tinystories-656k-f32.gguf")
    text = "Once upon a time, there was a little girl named Lily. " * 3_600
    start = time.thread_time()
    token_ids = tokenizer.encode(text)
    assert time.thread_time() - start < LONG_INPUT_S
    assert tokenizer.decode(token_ids) == text


@pytest.mark.parametrize("text", ["<s>" * 66_000, "</s><s>x " * 22_000, "<" * 200_000])
def test_200_kilobytes_of_special_tokens_take_no_time(text: str) -> None:
    start = time.thread_time()
    llama2_tokenizer().encode(text, parse_special=True)
    assert time.thread_time() - start < LONG_INPUT_S
