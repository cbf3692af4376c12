"""The rule of `docs/generations.md` for any request: reasons, counts, ids and texts agree however a generation ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import Event
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.generations import check_end
from tests.support.tiny_models import N_SPECIAL

EOS = 2
N_CTX = 24


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        yield loaded


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    max_tokens=st.integers(1, 30),
    prompt=st.lists(st.integers(3, 319), min_size=0, max_size=N_CTX - 2),
    stop=st.lists(st.sampled_from(["a", "e", "he", "\ufffd", "\ufffd\ufffd", "w1", " ", "\n"]), max_size=2),
    eos_bias=st.sampled_from([-100.0, 0.0, 4.0, 8.0]),
    split_bias=st.sampled_from([0.0, 5.0]),
    ignore_eos=st.booleans(),
    abort_after=st.one_of(st.none(), st.integers(0, 12)),
)
def test_reasons_counts_ids_and_texts_agree(
    seed: int,
    max_tokens: int,
    prompt: list[int],
    stop: list[str],
    eos_bias: float,
    split_bias: float,
    ignore_eos: bool,
    abort_after: int | None,
    loaded: OpenModel,
) -> None:
    half = {N_SPECIAL + byte: split_bias for byte in (0xE2, 0x82, 0xAC, 0xED, 0xA0)}  # parts of characters
    params = SamplingParams(seed=seed, temperature=1, top_k=0, logit_bias={EOS: eos_bias, **half})
    request = Request("job", (1, *prompt), params, max_tokens, tuple(dict.fromkeys(stop)), ignore_eos)
    engine = Engine(loaded, Settings(ctx_size=N_CTX, parallel=2))
    engine.add(request)
    events: dict[str, list[Event]] = defaultdict(list)
    n_steps = 0
    while engine.has_work:
        if n_steps == abort_after:
            engine.abort("job")
        for step_event in engine.step():
            events[step_event.job_id].append(step_event.event)
        n_steps += 1
    end = check_end(events["job"], request, N_CTX, loaded.tokenizer)
    event(f"{end.finish_reason}, {'a stop string' if end.matched_stop else 'none'}")
