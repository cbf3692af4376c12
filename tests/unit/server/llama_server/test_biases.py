"""Biases of tokens, in llama-server's forms."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from llorch.open_model import open_model
from llorch.server.routes.llama_server.biases import bias_faults, biases_of


def test_pairs_and_objects_say_the_same(tiny_model: Path) -> None:
    with open_model(tiny_model) as loaded:
        tokenizer = loaded.tokenizer
    (a,) = tokenizer.encode("a", add_bos=False)[-1:]
    word = tokenizer.encode("ab", add_bos=False)
    assert biases_of([[7, 1], ["a", -2.5], [9, False]], tokenizer)[a] == -2.5
    assert biases_of([[7, 1], [9, False]], tokenizer) == {7: 1.0, 9: -math.inf}
    assert biases_of({"7": 1, "9": False}, tokenizer) == {7: 1.0, 9: -math.inf}
    assert biases_of({"ab": 3}, tokenizer) == dict.fromkeys(word, 3.0)


@pytest.mark.parametrize(
    "value", [[], {}, None, [[0, 100]], [[2**31 - 1, -100]], {"x" * 100: 0}, [[1, 0.5]] * 1024]
)
def test_values_at_their_limits_are_no_faults(value: object) -> None:
    assert bias_faults(value) == []


@pytest.mark.parametrize(
    "value", [[[1, True]], [[True, 1]], [[1, 100.5]], {"": 1}, [[1, 1]] * 1025, "a", [[-1, 1]]]
)
def test_other_values_are_one_fault(value: object) -> None:
    (fault,) = bias_faults(value)
    assert fault.field == "logit_bias"
