"""The hash over the logits that tokens are chosen from, against one that is computed by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.logits_hash import LogitsHash
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.model.batch import Batch
from llorch.model.kv_cache import KVCache
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.generations import end_of, run


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        yield loaded


def test_it_grows_by_a_row_of_float32_for_each_token() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    growing = LogitsHash()
    for row, token_id in zip(rows, (7, 8), strict=True):
        growing.add(row, token_id)
    record = growing.record()
    assert record.token_ids == (7, 8)
    assert record.digests[0] == hashlib.sha256(rows[0].astype("<f4").tobytes()).digest()
    assert record.digests[1] == hashlib.sha256(rows.astype("<f4").tobytes()).digest()


def test_an_engine_hashes_the_models_own_logits_whatever_bias_they_get(loaded: OpenModel) -> None:
    prompt = (1, 5, 9)
    params = SamplingParams(temperature=0, logit_bias={7: 100.0})
    asked = Request("job", prompt, params, 1, ignore_eos=True, hashes_logits=True)
    end = end_of(run(Engine(loaded, Settings(ctx_size=32, parallel=1)), asked)["job"])
    assert end.token_ids == (7,)
    cache = KVCache(loaded.config, 1, "f16")
    rows = np.arange(3, dtype=np.int32)
    batch = Batch.of(np.array(prompt, np.int32), rows, 0 * rows, np.zeros((1, 1), np.int32), rows[-1:])
    logits = loaded.llama.forward(batch, cache)
    assert end.logits is not None
    assert end.logits.digests == (hashlib.sha256(logits.tobytes()).digest(),)


def test_nothing_is_hashed_unless_it_is_asked_for(loaded: OpenModel) -> None:
    asked = Request("job", (1, 5), SamplingParams(temperature=0), 2)
    assert end_of(run(Engine(loaded, Settings(ctx_size=32, parallel=1)), asked)["job"]).logits is None
