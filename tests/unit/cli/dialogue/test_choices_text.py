"""`/set NAME VALUE`: the names and limits of the settings."""

from __future__ import annotations

import pytest

from llorch.cli.dialogue.answering import Choices
from llorch.cli.dialogue.choices_text import NAMES, choices_lines, with_choice
from llorch.engine.params import SamplingParams
from llorch.errors import InputError

FIRST = Choices(SamplingParams(temperature=0.5, seed=7), None)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("temperature", "1.5", 1.5), ("top_k", "3", 3), ("seed", "18446744073709551615", 2**64 - 1)],
)
def test_a_value_is_taken_and_shown(name: str, text: str, value: float) -> None:
    changed = with_choice(FIRST, name, text, FIRST)
    assert getattr(changed.params, name) == value
    assert f"{name} = {value}" in choices_lines(changed)
    assert with_choice(changed, name, "default", FIRST) == FIRST


def test_the_length_of_answers_is_a_choice_too() -> None:
    changed = with_choice(FIRST, "n_predict", "12", FIRST)
    assert changed.max_tokens == 12
    assert "n_predict = 12" in choices_lines(changed)
    assert with_choice(changed, "n_predict", "default", FIRST).max_tokens is None
    assert "n_predict = as many as the context holds" in choices_lines(FIRST)
    assert with_choice(changed, "n_predict", "-1", FIRST).max_tokens is None


def test_every_choice_is_listed() -> None:
    assert [line.partition(" = ")[0] for line in choices_lines(FIRST)] == list(NAMES)
    assert {"temperature", "top_p", "min_p", "repetition_penalty"} < set(NAMES)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("tempratur", "1", "did you mean temperature?"),
        ("qqqq", "1", "what can be: temperature"),
        ("temperature", "3", "0 <= temperature <= 2; got '3'"),
        ("temperature", "nan", "expected a number"),
        ("temperature", "warm", "expected a number"),
        ("top_k", "1.5", "expected an integer"),
        ("top_k", "9" * 6000, "expected an integer"),
        ("seed", "-1", "0 <= seed"),
        ("n_predict", "0", "expected an integer"),
    ],
)
def test_what_cannot_be_set_is_named(name: str, text: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        with_choice(FIRST, name, text, FIRST)
