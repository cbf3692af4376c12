"""Drafts change no answer: every event is the one that there is without them, for any request and any draft."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from llorch.engine.engine import open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.allowed_sets import Sets
from tests.support.drafts import new_engine, propose_partly_wrong, untimed
from tests.support.generations import end_of, run
from tests.support.tiny_models import N_SPECIAL

EOS = 2
FAVOURITES = (70, 71, 72)
"""With these made likely, answers repeat themselves."""


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        yield loaded


@st.composite
def requests(draw: st.DrawFn) -> Request:
    bias = {token_id: draw(st.sampled_from([0.0, 3.0, 6.0])) for token_id in FAVOURITES}
    params = SamplingParams(
        seed=draw(st.integers(0, 2**32)),
        temperature=draw(st.sampled_from([0, 0.3, 1.0])),
        top_k=draw(st.sampled_from([0, 2, 40])),
        repetition_penalty=draw(st.sampled_from([1.0, 0.8, 1.1])),
        presence_penalty=draw(st.sampled_from([0.0, -0.5])),
        penalize_prompt=draw(st.booleans()),
        logit_bias={**bias, EOS: draw(st.sampled_from([-100.0, 0.0, 5.0])), N_SPECIAL + 0xE2: 2.0},
    )
    options: dict[str, Any] = {
        "n_logprobs": draw(st.sampled_from([None, 0, 3])),
        "n_prompt_logprobs": draw(st.sampled_from([None, 2])),
    }
    if draw(st.booleans()):
        sets: list[set[int] | None] = draw(
            st.lists(
                st.none() | st.sets(st.sampled_from([*FAVOURITES, EOS, 90, 91]), min_size=1), max_size=30
            )
        )
        options["constraint"] = lambda: Sets([*sets, {EOS}], 320)
    else:
        options["ignore_eos"] = draw(st.booleans())
    prompt = draw(st.lists(st.sampled_from([*FAVOURITES, 90]), max_size=40))
    stop = tuple(draw(st.lists(st.sampled_from(["a", "he", "\ufffd", "GHG", "w1"]), max_size=2, unique=True)))
    return Request("job", (1, *prompt), params, draw(st.integers(1, 40)), stop, **options)


@settings(max_examples=60)
@given(requests(), st.sampled_from([1, 3, 512]))
def test_the_drafts_of_the_text_itself_change_nothing(
    loaded: OpenModel, request_: Request, batch_size: int
) -> None:
    plain = run(new_engine(loaded, "off"), request_)["job"]
    drafted = run(new_engine(loaded, "ngram"), request_)["job"]
    assert untimed(drafted) == untimed(plain)
    timings = end_of(drafted).timings
    assert timings.accepted_tokens <= timings.drafted_tokens
    event(
        f"accepted: {timings.accepted_tokens > 0}, rejected: {timings.drafted_tokens > timings.accepted_tokens}"
    )


@settings(max_examples=60)
@given(requests(), st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]), st.integers(0, 100))
def test_any_drafts_change_nothing(loaded: OpenModel, request_: Request, share: float, seed: int) -> None:
    plain = run(new_engine(loaded, "off"), request_)["job"]
    with pytest.MonkeyPatch.context() as patch:
        propose_partly_wrong(patch, end_of(plain).token_ids, [70, 90, EOS, 319], share, seed)
        drafted = run(new_engine(loaded, "ngram"), request_)["job"]
    assert untimed(drafted) == untimed(plain)
    timings = end_of(drafted).timings
    assert share or timings.accepted_tokens == timings.drafted_tokens
