"""Encoding holds for all texts and vocabularies, not only for the vectors."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.text.tokenizer import Tokenizer
from llorch.text.vocab import TokenType
from tests.support.vocabularies import llama2_tokenizer, make_tokenizer

ALPHABET = "ab▁é"
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
words = st.lists(
    st.sampled_from(["the", " ", "  ", "é", "\n", "Hello", "日本", "😀", "<s>", "1"]), max_size=30
).map("".join)


def naive_merge(pieces: dict[str, tuple[float, int]], text: str) -> list[int | str]:
    """Look at all pairs, merge the best (the leftmost of equals), again and again; ids or bare characters."""
    symbols = list(text)
    while True:
        pairs = [(-pieces[s + t][0], i) for i, (s, t) in enumerate(pairwise(symbols)) if s + t in pieces]
        if not pairs:
            return [pieces[symbol][1] if symbol in pieces else symbol for symbol in symbols]
        best = min(pairs)[1]
        symbols[best : best + 2] = [symbols[best] + symbols[best + 1]]


def expected_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    vocab = tokenizer.vocab
    pieces = {
        tokenizer.piece(i): (float(vocab.scores[i]), i) for i in range(vocab.n_vocab) if vocab.types[i] == 1
    }
    token_ids: list[int] = []
    for symbol in naive_merge(pieces, text.replace(" ", "▁")):
        token_ids += [symbol] if isinstance(symbol, int) else [3 + byte for byte in symbol.encode()]
    return token_ids


@given(
    pieces=st.lists(st.text(ALPHABET, min_size=1, max_size=6), unique=True, min_size=1, max_size=40),
    scores=st.lists(st.integers(-3, 3), min_size=40, max_size=40),
    text=st.text(ALPHABET + " ", max_size=40),
)
@settings(max_examples=400, deadline=None)
def test_any_vocabulary_merges_as_the_naive_way_does(pieces: list[str], scores: list[int], text: str) -> None:
    options = {"overrides": {"add_space_prefix": False}}
    tokenizer = make_tokenizer(pieces, scores=scores[: len(pieces)], **options)
    assert tokenizer.encode(text, add_bos=False) == expected_ids(tokenizer, text)


@given(
    pieces=st.lists(
        st.builds(lambda n, word: "▁" * n + word, st.integers(0, 3), st.text("abé", max_size=4)).filter(bool),
        unique=True, min_size=1, max_size=40,
    ),
    scores=st.lists(st.integers(-3, 3), min_size=40, max_size=40),
    text=st.text(ALPHABET + " ", max_size=60),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_words_encoded_one_by_one_equal_the_whole_text(
    pieces: list[str], scores: list[int], text: str
) -> None:
    options = {"overrides": {"add_space_prefix": False}}
    scores = scores[: len(pieces)]
    by_words = make_tokenizer(pieces, scores=scores, **options)
    # One unreachable piece with a space inside is enough to forbid the split into words.
    as_a_whole = make_tokenizer([*pieces, "xyz▁xyz"], scores=[*scores, 0], **options)
    assert by_words.encode(text) == as_a_whole.encode(text) == [1, *expected_ids(by_words, text)]


@given(words | texts)
@settings(deadline=None)
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = llama2_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " ")


@given(words | texts)
@settings(deadline=None)
def test_text_never_becomes_a_control_token(text: str) -> None:
    assert not {0, 1, 2}.intersection(llama2_tokenizer().encode(text, add_bos=False))


@given(st.lists(st.sampled_from(["<s>", "</s>", "<unk>", "<s", "s>", "Hello", " "]), max_size=20))
@settings(deadline=None)
def test_parsed_special_tokens_are_found_all_and_the_text_between_them_kept(parts: list[str]) -> None:
    tokenizer = llama2_tokenizer()
    text = "".join(parts)
    token_ids = tokenizer.encode(text, add_bos=False, parse_special=True)
    for special in ("<s>", "</s>", "<unk>"):
        assert token_ids.count(tokenizer.vocab.tokens.index(special.encode())) == text.count(special)


def naive_split(text: str, special: list[tuple[str, int]]) -> list[str | int]:
    """Cut `text` at the first special token wherever it stands, the rest at the second, and so on."""
    parts: list[str | int] = [text] if text else []
    for token, token_id in special:
        cut: list[str | int] = []
        for part in parts:
            if isinstance(part, int):
                cut.append(part)
                continue
            for i, between in enumerate(part.split(token)):
                cut += [token_id] if i else []
                cut += [between] if between else []
        parts = cut
    return parts


@given(
    tokens=st.lists(st.text("ab", min_size=1, max_size=5), unique=True, max_size=8),
    kinds=st.lists(st.sampled_from([TokenType.CONTROL, TokenType.USER_DEFINED]), min_size=8, max_size=8),
    parse_special=st.booleans(),
    text=st.text("abc", max_size=40),
)
@settings(max_examples=300, deadline=None)
def test_special_tokens_are_cut_out_one_after_the_other_the_longest_first(
    tokens: list[str], kinds: list[TokenType], parse_special: bool, text: str
) -> None:
    special = list(zip(tokens, kinds, strict=False))
    tokenizer = make_tokenizer(special=special, overrides={"add_space_prefix": False})
    ids = [(token, 259 + i) for i, (token, kind) in enumerate(special) if parse_special or kind == 4]
    expected: list[int] = []
    for part in naive_split(text, sorted(ids, key=lambda entry: -len(entry[0]))):
        expected += [part] if isinstance(part, int) else [3 + byte for byte in part.encode()]
    assert tokenizer.encode(text, add_bos=False, parse_special=parse_special) == expected
