"""Guesses of the next tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llorch.engine.ngram_drafter import NgramDrafter

ALWAYS = 0.0
"""A price at which every token is worth its row."""


def behind(tokens: list[int], n_prompt: int = 1) -> NgramDrafter:
    drafter = NgramDrafter(tokens[:n_prompt])
    for token_id in tokens[n_prompt:]:
        drafter.append(token_id)
    return drafter


def naive_source(tokens: list[int]) -> int | None:
    for size in (4, 3):
        if len(tokens) > size:
            for end in range(len(tokens) - 1, size - 1, -1):
                if tokens[end - size : end] == tokens[-size:]:
                    return end
    return None


@given(st.lists(st.sampled_from([0, 1, 256, 65536, 0x01000000]), min_size=2, max_size=40), st.integers(0, 9))
def test_the_guess_is_what_followed_the_latest_earlier_occurrence(tokens: list[int], most: int) -> None:
    """Ids whose bytes look like one another at other offsets are among them."""
    drafter = behind(tokens, len(tokens) - 1)
    source = naive_source(tokens)
    if source is None:
        assert drafter.propose(ALWAYS, most) == ()
        return
    expected = list(tokens)
    for i in range(most):
        expected.append(expected[source + i])
    assert drafter.propose(ALWAYS, most) == tuple(expected[len(tokens) :])


def test_nothing_is_guessed_where_nothing_repeats() -> None:
    assert behind(list(range(50))).propose(ALWAYS, 8) == ()
    assert behind([1, 2, 3]).propose(ALWAYS, 8) == ()


def test_a_repetition_that_has_begun_goes_on_in_the_guess() -> None:
    assert behind([7, 7, 7, 7, 7]).propose(ALWAYS, 6) == (7,) * 6
    assert behind([1, 2, 3, 1, 2, 3, 1]).propose(ALWAYS, 7) == (2, 3, 1, 2, 3, 1, 2)


def test_right_guesses_make_longer_drafts_and_wrong_ones_end_them() -> None:
    passage = list(range(100, 160))
    drafter = NgramDrafter(passage)
    lengths = []
    for token_id in passage:
        drafter.append(token_id)
        lengths.append(len(drafter.propose(0.2, 7)))
    assert lengths[:4] == [0, 0, 1, 3]
    assert lengths[:13] == sorted(lengths[:13])
    assert lengths[12:-1] == [7] * (len(lengths) - 13)


def test_wrong_guesses_end_drafts_and_right_ones_that_were_not_computed_begin_them_again() -> None:
    passage = list(range(100, 130))
    drafter = NgramDrafter([*passage, 1, 2, 3])
    for i in range(12):  # what followed before never follows again
        for token_id in (1000 + i, 1, 2, 3):
            drafter.append(token_id)
    assert drafter.propose(ALWAYS, 7) != ()
    assert drafter.propose(0.2, 7) == ()
    for token_id in passage[:10]:
        drafter.append(token_id)
    assert drafter.propose(0.2, 7)[:2] == (110, 111)


def test_a_dearer_row_makes_shorter_drafts() -> None:
    drafter = behind(list(range(100, 130)) * 2, 30)
    lengths = [len(drafter.propose(price, 7)) for price in (0.2, 0.8, 0.95, 1.0)]
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths[0], lengths[-1]) == (7, 0)
