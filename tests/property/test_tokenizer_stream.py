"""The streaming detokenizer equals decoding everything at once, whatever the ids are."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from llorch.text.detokenizer import Detokenizer
from tests.support.vocabularies import llama2_tokenizer

any_ids = st.lists(st.integers(0, 31_999), max_size=60)
byte_ids = st.lists(st.integers(3, 258), max_size=60)
utf8_pieces = st.lists(
    st.sampled_from(["😀", "👩‍👩‍👧", "é", "日", "\U0010ffff"]).flatmap(
        lambda character: st.integers(1, len(character.encode())).map(lambda n: character.encode()[:n])
    ),
    max_size=20,
).map(lambda chunks: [3 + byte for chunk in chunks for byte in chunk])
streams = st.one_of(
    any_ids,
    byte_ids,
    utf8_pieces,
    st.tuples(any_ids, byte_ids, any_ids).map(lambda parts: [*parts[0], *parts[1], *parts[2]]),
)
prompts = st.sampled_from([[], [1], [1, 15043], [15043]])


@given(token_ids=streams, prompt_ids=prompts, special=st.booleans())
@settings(max_examples=500, deadline=None)
def test_all_parts_joined_equal_decode(token_ids: list[int], prompt_ids: list[int], special: bool) -> None:
    tokenizer = llama2_tokenizer()
    shown_ids = range(tokenizer.vocab.n_vocab) if special else ()
    detokenizer = Detokenizer(tokenizer, prompt_ids, shown_ids=shown_ids)
    streamed = "".join(map(detokenizer.push, token_ids)) + detokenizer.finish()
    assert streamed == tokenizer.decode(token_ids, prompt_ids=prompt_ids, special=special)


@given(streams)
@example([3 + 0xED, 3 + 0xA0])  # the beginning of a surrogate, which is no character
@settings(max_examples=300, deadline=None)
def test_at_most_three_bytes_are_ever_held_back(token_ids: list[int]) -> None:
    tokenizer = llama2_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    streamed = ""
    for n in range(len(token_ids)):
        streamed += detokenizer.push(token_ids[n])
        missing = tokenizer.decode(token_ids[: n + 1]).removeprefix(streamed)
        assert missing in ("", "\ufffd"), "only the beginning of one character may be missing"


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=100).filter(lambda text: "\ufffd" not in text)
)
@settings(deadline=None)
def test_valid_text_streams_without_half_characters(text: str) -> None:
    tokenizer = llama2_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    parts = [detokenizer.push(token_id) for token_id in tokenizer.encode(text)]
    assert not any("\ufffd" in part for part in parts)
    assert detokenizer.finish() == ""
