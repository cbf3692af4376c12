"""Which rows of a step may be drafts."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import PromptEvent
from llorch.engine.ngram_drafter import NgramDrafter
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.settings import Settings
from tests.support.generations import run


def test_a_prompt_that_is_judged_token_by_token_gets_no_drafts(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = Request("a", tuple(range(5, 25)), SamplingParams(temperature=0), 4, n_prompt_logprobs=2)
    reports = []
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        for draft in ("off", "ngram"):
            engine = Engine(loaded, Settings(ctx_size=64, draft=draft))
            if draft == "ngram":
                monkeypatch.setattr(NgramDrafter, "propose", lambda self, price, most: (7,) * min(most, 3))
                monkeypatch.setattr(engine._pace, "n_rows", lambda n_decoding, **_: 1)
            reports.append([event for event in run(engine, judged)["a"] if isinstance(event, PromptEvent)])
    assert reports[0] == reports[1] != []
