from __future__ import annotations

import math

import numpy as np
import pytest

from llorch.errors import NumericalError
from llorch.quality.estimate import Mean, mean_of, perplexity_of, running_perplexities
from llorch.quality.log_softmax import negative_log_likelihoods
from tests.support.perplexity import naive_loss


def test_a_mean_has_the_standard_error_of_its_sample() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0])
    found = mean_of(values)
    assert found.value == 3
    assert found.stderr == pytest.approx(values.std() / math.sqrt(3))


def test_one_value_or_equal_ones_have_no_error() -> None:
    assert mean_of(np.array([2.0])).stderr == 0
    assert mean_of(np.full(7, 2.0)).stderr == 0


def test_running_perplexities_are_of_all_chunks_so_far() -> None:
    losses = np.log([2.0, 2.0, 8.0, 8.0])
    assert running_perplexities(losses, 2) == pytest.approx([2.0, 4.0])


def test_a_perplexity_beyond_float64_is_refused() -> None:
    with pytest.raises(NumericalError, match="no finite number"):
        perplexity_of(Mean(800.0, 1.0))


def test_losses_equal_those_in_float64() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 8, (20, 777)).astype(np.float32)
    wanted = rng.integers(777, size=20).astype(np.int32)
    found = negative_log_likelihoods(logits, wanted)
    naive = [naive_loss(row, int(token)) for row, token in zip(logits, wanted, strict=True)]
    assert found == pytest.approx(naive, rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(value: float) -> None:
    logits = np.zeros((2, 5), np.float32)
    logits[1, 3] = value
    with pytest.raises(NumericalError):
        negative_log_likelihoods(logits, np.zeros(2, np.int32))
