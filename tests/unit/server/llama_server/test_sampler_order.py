"""The steps that choose a token, as llama-server's clients order them."""

from __future__ import annotations

import pytest

from llorch.fields.sampling_table import STEPS
from llorch.server.routes.llama_server.sampler_order import (
    names_adaptive,
    sampler_faults,
    shown_steps,
    steps_of,
)


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        (list(STEPS), STEPS), ("edskypmxt", STEPS), ([], ()), ("", ()), (["top_k", "min_p"], ("top_k", "min_p")),
        (["Top-K", "nucleus", "temp"], ("top_k", "top_p", "temperature")), ("tk", ("temperature", "top_k")),
        (["xtc", "topp", "dry", "adaptive_p"], ("xtc", "top_p", "dry")), (["typ", "typ_p"][:1], ("typical_p",)),
        (["temperature", "typ-p", "penalties"][::2], ("temperature", "penalties")),
    ],
)  # fmt: skip
def test_names_letters_and_other_spellings_in_the_order_they_come(
    value: object, steps: tuple[str, ...]
) -> None:
    assert sampler_faults(value) == []
    assert steps_of(value) == steps


def test_adaptive_p_is_no_step_but_is_seen() -> None:
    assert all(names_adaptive(value) for value in (["adaptive_p"], "ka", ["top_k", "Adaptive-P"]))
    assert not any(names_adaptive(value) for value in (None, [], "k", list(STEPS)))


def test_shown_steps_are_taken_back() -> None:
    assert "typ_p" in shown_steps(STEPS)
    assert steps_of(shown_steps(STEPS)) == STEPS


@pytest.mark.parametrize(
    "value", [["top_p", "top_p"], "kk", ["nucleus", "top_p"], ["infill"], "z", 5, [5], {}]
)
def test_other_steps_and_one_twice_are_faults(value: object) -> None:
    (fault,) = sampler_faults(value)
    assert fault.field == "samplers"
