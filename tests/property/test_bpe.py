"""Byte-level BPE holds for all texts and merges: the naive way, decoding, and the stream."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.text.detokenizer import Detokenizer
from llorch.text.pretokenize import PRE_TOKENIZERS
from llorch.text.tokenizer import Tokenizer
from tests.support.vocabularies import BYTE_CHARACTERS, llama3_tokenizer, make_bpe

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
words = st.lists(
    st.sampled_from(["the", " ", "  ", "é", "\n", "Hello", "日本", "😀", "<|eot_id|>", "1", "'s", "\u3000"]),
    max_size=30,
).map("".join)
symbols = st.text("abÃ©", min_size=1, max_size=3)
merges = st.lists(st.builds("{} {}".format, symbols, symbols), max_size=30)


def naive_pieces(ranked: list[str], word: str) -> list[str]:
    """Look at all pairs, merge the first of the list (the leftmost of equals), again and again."""
    symbols = [BYTE_CHARACTERS[byte] for byte in word.encode()]
    while True:
        pairs = [
            (ranked.index(f"{left} {right}"), i)
            for i, (left, right) in enumerate(pairwise(symbols))
            if f"{left} {right}" in ranked
        ]
        if not pairs:
            return symbols
        best = min(pairs)[1]
        symbols[best : best + 2] = [symbols[best] + symbols[best + 1]]


@given(merges, st.text("abé", max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_merges_are_done_as_the_naive_way_does_them(ranked: list[str], word: str) -> None:
    tokenizer = make_bpe(ranked)
    found = [tokenizer.piece(token_id) for token_id in tokenizer.encode(word, add_bos=False)]
    assert found == naive_pieces(ranked, word)


@given(words | texts)
@settings(deadline=None)
def test_words_joined_are_the_text_whatever_the_pre_tokenizer(text: str) -> None:
    for pre in PRE_TOKENIZERS.values():
        assert "".join(pre.words(text)) == text
        assert all(pre.words(text))


@given(words | texts)
@settings(deadline=None)
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = llama3_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def streamed(tokenizer: Tokenizer, token_ids: list[int], *, special: bool = False) -> tuple[list[str], str]:
    detokenizer = Detokenizer(tokenizer, shown_ids=range(tokenizer.vocab.n_vocab) if special else ())
    return [detokenizer.push(token_id) for token_id in token_ids], detokenizer.finish()


@given(st.lists(st.integers(0, 128_255) | st.integers(0, 255), max_size=60), st.booleans())
@settings(max_examples=200, deadline=None)
def test_all_parts_of_a_stream_joined_equal_decode(token_ids: list[int], special: bool) -> None:
    tokenizer = llama3_tokenizer()
    parts, rest = streamed(tokenizer, token_ids, special=special)
    assert "".join(parts) + rest == tokenizer.decode(token_ids, special=special)


@given(texts.filter(lambda text: "\ufffd" not in text))
@settings(deadline=None)
def test_valid_text_streams_without_half_characters(text: str) -> None:
    tokenizer = make_bpe()  # a token for each byte: every character comes in parts
    parts, rest = streamed(tokenizer, tokenizer.encode(text))
    assert not any("\ufffd" in part for part in parts)
    assert (len(parts), rest) == (len(text.encode()), "")
