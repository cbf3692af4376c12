"""Constraints as the sampler applies them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llorch.engine.params import SamplingParams
from llorch.engine.sampling import Sampler
from llorch.engine.token_mask import TokenMask
from llorch.errors import ConstraintError, NumericalError
from tests.support.allowed_sets import Sets, bit_words

ROW = np.arange(70, dtype=np.float32)


def mask_of(*sets: set[int] | None, n_vocab: int = 70, end_ids: tuple[int, ...] = (2,)) -> TokenMask:
    return TokenMask(lambda: Sets(sets, n_vocab), n_vocab, end_ids)


def sampler_of(mask: TokenMask, **params: object) -> Sampler:
    return Sampler(SamplingParams(**{"temperature": 0, **params}), 0, [], (), mask)  # type: ignore[arg-type]


@given(st.integers(1, 200), st.data())
def test_exactly_the_tokens_without_a_bit_are_forbidden(n_vocab: int, data: st.DataObject) -> None:
    allowed = data.draw(st.sets(st.integers(0, n_vocab - 1)))
    logits = np.ones(n_vocab, np.float32)
    mask_of(allowed, n_vocab=n_vocab, end_ids=()).forbid(logits)
    assert {i for i in range(n_vocab) if logits[i] == 1} == allowed
    assert {i for i in range(n_vocab) if logits[i] == -np.inf} == set(range(n_vocab)) - allowed


def test_tokens_behind_the_last_word_are_forbidden() -> None:
    class Short(Sets):
        def allowed(self) -> NDArray[np.uint32]:
            return bit_words({1, 3}, 32)

    logits = np.ones(70, np.float32)
    TokenMask(lambda: Short([], 70), 70, ()).forbid(logits)
    assert np.flatnonzero(logits == 1).tolist() == [1, 3]


def test_the_sampler_chooses_among_allowed_tokens_and_says_what_it_chose() -> None:
    constraint = Sets([{5, 9}, None, {1}], 70)
    sampler = sampler_of(TokenMask(lambda: constraint, 70, (2,)))
    assert [sampler.sample(ROW) for _ in range(3)] == [9, 69, 1]
    assert constraint.accepted == [9, 69, 1]
    assert np.array_equal(ROW, np.arange(70))


def test_chance_bias_and_penalties_choose_among_allowed_tokens_too() -> None:
    sampler = sampler_of(
        mask_of(*[{5, 9}] * 50), temperature=2, logit_bias={69: 100.0}, repetition_penalty=1.5
    )
    assert {sampler.sample(ROW) for _ in range(40)} == {5, 9}


@pytest.mark.parametrize(
    ("allowed", "end_ids", "expected"),
    [({2}, (2,), True), ({2, 3}, (2, 3), True), ({2, 4}, (2, 3), False), (set(), (2,), False),
     (set(), (), True), (None, (2,), False), ({69}, (2,), False)],
)  # fmt: skip
def test_the_end_is_due_when_only_end_tokens_remain(
    allowed: set[int] | None, end_ids: tuple[int, ...], expected: bool
) -> None:
    mask = mask_of(allowed, end_ids=end_ids)
    assert mask.must_end is expected
    assert sampler_of(mask).must_end is expected


def test_bits_that_are_no_tokens_do_not_count() -> None:
    class Padded(Sets):
        def allowed(self) -> NDArray[np.uint32]:
            return bit_words({2, 70, 95}, 96)

    assert TokenMask(lambda: Padded([], 70), 70, (2,)).must_end


def test_the_end_token_is_not_told_to_the_constraint() -> None:
    constraint = Sets([{2}], 70)
    assert sampler_of(TokenMask(lambda: constraint, 70, (2,))).sample(ROW) == 2
    assert constraint.accepted == []


def test_a_constraint_and_a_bias_that_leave_no_token_are_an_error_of_the_constraint() -> None:
    with pytest.raises(ConstraintError, match="leaves none"):
        sampler_of(mask_of({5}), logit_bias={5: -np.inf}).sample(ROW)
    with pytest.raises(ConstraintError, match="leaves none"):
        sampler_of(mask_of(set())).sample(ROW)


def test_nan_is_seen_behind_a_mask() -> None:
    row = ROW.copy()
    row[60] = np.nan
    with pytest.raises(NumericalError):
        sampler_of(mask_of({5})).sample(row)


@pytest.mark.parametrize("fault", ["allowed", "accept", "type"])
def test_what_a_constraint_raises_becomes_one_error_that_names_it(fault: str) -> None:
    class Faulty(Sets):
        def accept(self, token_id: int) -> None:
            if fault == "accept":
                raise KeyError("secret")
            super().accept(token_id)

        def allowed(self) -> NDArray[np.uint32] | None:
            if fault == "allowed" and self.accepted:
                raise KeyError("secret")
            return np.ones(3, np.int64) if fault == "type" else super().allowed()  # type: ignore[return-value]

    with pytest.raises(ConstraintError) as caught:
        sampler_of(TokenMask(lambda: Faulty([{5}, {6}], 70), 70, (2,))).sample(ROW)
    assert ("TypeError" if fault == "type" else "KeyError") in str(caught.value)
    assert "secret" not in str(caught.value)
