"""A loaded model takes its weights, its cache and little else.

Unlike the rest of this folder these tests are not marked slow: they take 3 s, and no clock decides.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).resolve().parents[2] / "llorch" / "assets" / "demo.gguf"
MOST_BESIDE = 300e6
"""Bytes beside weights and cache: Python, the compiler, buffers of a forward pass."""

SCRIPT = """
import json, sys
from llorch.engine.engine import Engine, open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.session import CallerDriver
from llorch.settings import Settings

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

settings = Settings(model=sys.argv[1], weights=sys.argv[2], kv_type="f32")
with open_configured(settings) as loaded:
    engine = Engine(loaded, settings)
    prompt = tuple(loaded.tokenizer.encode("Once upon a time"))
    for _ in CallerDriver(engine).events(Request("job", prompt, SamplingParams(temperature=0), 64)):
        pass
    cache, weights = engine.kv_cache.n_bytes, loaded.llama.residence.n_bytes
    print(json.dumps({"anonymous": resident("RssAnon"), "cache": cache, "weights": weights}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("residence", ["packed", "mapped"])
def test_memory_is_weights_and_cache_and_at_most_300_mb(residence: str) -> None:
    command = [sys.executable, "-c", SCRIPT, str(MODEL), residence]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    measured = json.loads(done.stdout)
    assert (measured["weights"] > 0) == (residence == "packed")
    assert measured["anonymous"] < measured["weights"] + measured["cache"] + MOST_BESIDE
