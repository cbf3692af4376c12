"""The steps that choose a token, as llama-server's clients order them."""

from __future__ import annotations

import pytest

from llorch.server.routes.llama_server.sampler_order import OFF, ORDER, sampler_faults, switched_off

EVERYTHING = {name: value for values in OFF.values() for name, value in values.items()}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (list(ORDER), set(EVERYTHING)), ("edskypmxt", set(EVERYTHING)), ([], set()), ("", set()),
        (["top_k", "min_p"], {"top_k", "min_p"}), (["Top-K", "nucleus", "temp"], {"top_k", "top_p", "temperature"}),
        ("kt", {"top_k", "temperature"}), (["xtc", "topp", "dry"], {"top_p"}),
    ],
)  # fmt: skip
def test_what_is_not_named_is_off(value: object, kept: set[str]) -> None:
    assert sampler_faults(value) == []
    assert set(switched_off(value)) == set(EVERYTHING) - kept


def test_steps_that_llorch_has_not_may_stand_anywhere() -> None:
    assert sampler_faults(["temperature", "dry", "xtc"]) == []


@pytest.mark.parametrize(
    "value", [["temperature", "top_p"], "tp", ["top_p", "top_p"], ["infill"], "z", 5, [5]]
)
def test_another_order_and_other_steps_are_faults(value: object) -> None:
    (fault,) = sampler_faults(value)
    assert fault.field == "samplers"
