"""Control tokens that a request wants to see are part of its text, and of what stop strings look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.settings import Settings
from tests.support.generations import check_protocol, end_of, run

BOS = 1
ALWAYS_BOS = SamplingParams(temperature=0, logit_bias={BOS: 100.0})


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    settings = Settings(model=str(tiny_model), threads=1)
    with open_configured(settings) as loaded:
        yield Engine(loaded, settings)


def text_of(engine: Engine, **options: Any) -> str:
    request = Request("job", (BOS, 5), ALWAYS_BOS, 3, **options)
    events = run(engine, request)["job"]
    check_protocol(events)
    return end_of(events).text


def test_control_tokens_are_visible_where_they_were_asked_for(engine: Engine) -> None:
    assert text_of(engine) == ""
    assert text_of(engine, shown_ids=frozenset({BOS})) == "<s><s><s>"
    assert text_of(engine, shown_ids=frozenset({2})) == ""


def test_stop_strings_see_them(engine: Engine) -> None:
    assert text_of(engine, shown_ids=frozenset({BOS}), stop=("<s><s>",)) == ""
