from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llorch.formats.gguf.file import GGUFFile
from llorch.text.tokenizer import Tokenizer, load_tokenizer
from llorch.text.vocab import TokenType
from tests.support.vocabularies import llama3_tokenizer, llama_cpp_vectors, make_bpe

ONE_CHARACTER = ("a", " ", "\n", "é", "日", "1", "'", "\0", "\u0301")
LINEAR_RATIO = 7.0
"""Four times the text takes 4 to 5 times as long; it would take 16 times if the time were quadratic."""


def pieces(tokenizer: Tokenizer, text: str, *, parse_special: bool = False) -> list[str]:
    token_ids = tokenizer.encode(text, add_bos=False, parse_special=parse_special)
    return [tokenizer.piece(token_id) for token_id in token_ids]


def test_ids_equal_llama_cpp_on_its_vectors(models_dir: Path) -> None:
    tokenizer = llama3_tokenizer()
    vectors = llama_cpp_vectors(models_dir, "ggml-vocab-llama-bpe.gguf")
    assert len(vectors) == 47
    for text, expected in vectors:
        assert tokenizer.encode(text, add_bos=False) == expected, text
        assert tokenizer.decode(expected) == text


def test_the_llama3_vocabulary_is_read_as_the_file_says() -> None:
    vocab = llama3_tokenizer().vocab
    assert (vocab.n_vocab, len(vocab.merges)) == (128_256, 280_147)
    assert (vocab.bos_id, vocab.eos_id, vocab.unk_id) == (128_000, 128_001, None)
    assert (vocab.add_bos, vocab.add_eos, vocab.add_space_prefix) == (True, False, False)
    assert {vocab.tokens[token_id] for token_id in vocab.eog_ids} == {b"<|end_of_text|>", b"<|eot_id|>"}


def test_ids_equal_llama_tokenize_on_smollm2(smollm2: Path) -> None:
    tokenizer = load_tokenizer(GGUFFile(smollm2).metadata)
    for text, expected in (
        ("Hello wörld 12345", [19556, 267, 29989, 400, 216, 33, 34, 35, 36, 37]),
        (
            "  It's   2 o'clock,\n\n日本😀!",
            [216, 657, 506, 333, 34, 263, 23, 17466, 28, 198, 198, 23274, 115, 40993, 10813, 242, 218, 17],
        ),
        ("<|im_start|>user\nHi<|im_end|>\n", [1, 4093, 198, 26843, 2, 198]),
    ):
        assert tokenizer.encode(text, parse_special=True) == expected
        assert tokenizer.decode(expected, special=True) == text
    assert {tokenizer.vocab.tokens[i] for i in tokenizer.vocab.eog_ids} >= {b"<|im_end|>", b"<|endoftext|>"}


def test_a_text_gets_its_bos_and_no_second_one() -> None:
    tokenizer = llama3_tokenizer()
    assert tokenizer.encode("Hello") == [128_000, 9906]
    assert tokenizer.encode("<|begin_of_text|>Hello", parse_special=True) == [128_000, 9906]
    assert tokenizer.encode("Hello", add_bos=False) == [9906]


def test_control_tokens_are_read_only_where_asked_for() -> None:
    tokenizer = llama3_tokenizer()
    text = "a<|eot_id|>b"
    assert tokenizer.encode(text, add_bos=False, parse_special=True) == [64, 128_009, 65]
    plain = tokenizer.encode(text, add_bos=False)
    assert 128_009 not in plain
    assert tokenizer.decode(plain) == text


def test_user_defined_tokens_are_always_found_the_longest_first() -> None:
    special = [("<eos>", TokenType.CONTROL), ("ab", TokenType.USER_DEFINED), ("abc", TokenType.USER_DEFINED)]
    assert pieces(make_bpe(special=special), "xabcab<eos>") == ["x", "abc", "ab", *"<eos>"]


def test_the_first_merge_of_the_list_is_done_first() -> None:
    assert pieces(make_bpe(["b c", "a b"]), "abc") == ["a", "bc"]
    assert pieces(make_bpe(["a b", "b c"]), "abc") == ["ab", "c"]


def test_of_equal_pairs_the_leftmost_is_merged_first() -> None:
    assert pieces(make_bpe(["a a"]), "aaa") == ["aa", "a"]


def test_a_pair_is_known_by_its_two_halves_not_by_what_they_make() -> None:
    assert pieces(make_bpe(["b c", "ab c"]), "abc") == ["a", "bc"], "abc is a token, but no merge leads to it"


@pytest.mark.parametrize(("pre", "expected"), [("gpt-2", ["a", "bc"]), ("llama-bpe", ["abc"])])
def test_a_word_that_is_a_token_needs_no_merges_where_they_are_ignored(pre: str, expected: list[str]) -> None:
    assert pieces(make_bpe(["b c", "ab c"], pre=pre), "abc") == expected


def test_merges_do_not_reach_across_words() -> None:
    assert pieces(make_bpe(["a Ġ", "Ġ b"]), "a b") == ["a", "Ġb"]


def test_every_byte_is_spelled_by_its_character() -> None:
    tokenizer = make_bpe()
    text = "".join(map(chr, range(0x800))) + "日😀\U0010ffff"
    token_ids = tokenizer.encode(text, add_bos=False)
    assert bytes(token_ids) == text.encode(), "the first 256 tokens are the bytes"
    assert [tokenizer.token_bytes(byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert tokenizer.decode(token_ids) == text


def test_a_leading_space_is_text_like_any_other() -> None:
    tokenizer = make_bpe(["Ġ a"], overrides={"add_space_prefix": True})
    assert pieces(tokenizer, "a a") == ["a", "Ġa"], "a prefix is nothing that byte-level BPE knows"
    assert tokenizer.decode([tokenizer.vocab.tokens.index("Ġa".encode())]) == " a"


def test_byte_tokens_show_their_byte_and_control_tokens_nothing() -> None:
    special = [("<eos>", TokenType.CONTROL), ("<0x0A>", TokenType.BYTE), ("é", TokenType.USER_DEFINED)]
    tokenizer = make_bpe(special=special)
    assert tokenizer.decode([256, 257, 258]) == "\né"
    assert tokenizer.decode([256, 257, 258], special=True) == "<eos>\né"


@pytest.mark.parametrize("kind", [TokenType.CONTROL, TokenType.UNKNOWN])
@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe"])
def test_text_never_becomes_a_control_or_unknown_token_by_merging(kind: TokenType, pre: str) -> None:
    tokenizer = make_bpe(["e o"], pre=pre, special=[("eos", kind)], overrides={"merges": [b"e o", b"eo s"]})
    assert pieces(tokenizer, "eos") == ["eo", "s"]
    assert pieces(tokenizer, "eos", parse_special=True) == ["eos"]


def test_add_bos_follows_the_pre_tokenizer_where_the_file_does_not_say() -> None:
    assert make_bpe(pre="llama-bpe").vocab.add_bos
    assert make_bpe(pre="tekken").vocab.add_bos
    assert not make_bpe(pre="smollm").vocab.add_bos
    assert not make_bpe(pre="llama-bpe", overrides={"add_bos_token": False}).vocab.add_bos
    assert make_bpe(pre="smollm", overrides={"add_bos_token": True}).encode("") == [256]
    assert make_bpe(overrides={"add_eos_token": True}).encode("a") == [97, 256]


def test_threads_share_a_tokenizer(models_dir: Path) -> None:
    text = (models_dir / "wiki.test.raw").read_bytes()[:50_000].decode(errors="ignore")
    tokenizer = llama3_tokenizer()
    expected = tokenizer.encode(text)
    with ThreadPoolExecutor(4) as pool:
        assert all(token_ids == expected for token_ids in pool.map(tokenizer.encode, [text] * 8))


def test_the_llama3_vocabulary_opens_fast(model_path: Callable[[str], Path]) -> None:
    metadata = GGUFFile(model_path("ggml-vocab-llama-bpe.gguf")).metadata
    start = time.thread_time()
    load_tokenizer(metadata)
    assert time.thread_time() - start < 3.0, "takes 0.5 s where nothing else runs"


def encode_s(tokenizer: Tokenizer, text: str) -> float:
    """The least CPU seconds of three tries."""

    def once() -> float:
        start = time.thread_time()
        tokenizer.encode(text)
        return time.thread_time() - start

    return min(once() for _ in range(3))


@pytest.mark.parametrize("character", ONE_CHARACTER, ids=ascii)
def test_one_character_again_and_again_takes_linear_time(character: str) -> None:
    tokenizer = llama3_tokenizer()
    # A quadratic one takes 16 times as long, in every try; the processor itself may slow down in one.
    tries = (
        encode_s(tokenizer, character * 40_000) / encode_s(tokenizer, character * 10_000) for _ in range(4)
    )
    assert any(ratio < LINEAR_RATIO for ratio in tries)


@pytest.mark.slow
@pytest.mark.parametrize("text", [*ONE_CHARACTER, "ab", " a", " \n", "日a"], ids=ascii)
def test_a_megabyte_of_anything_takes_linear_time(text: str) -> None:
    tokenizer = llama3_tokenizer()
    n = 1_000_000 // len(text.encode())
    whole = text * n
    start = time.thread_time()
    token_ids = tokenizer.encode(whole, add_bos=False)
    took_s = time.thread_time() - start
    assert took_s < 3 * LINEAR_RATIO * encode_s(tokenizer, text * (n // 10))
    assert tokenizer.decode(token_ids) == whole
