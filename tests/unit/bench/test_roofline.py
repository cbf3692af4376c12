"""The roofline: what bounds a piece of work, and peaks that nothing exceeds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from llorch.bench import roofline as roofline_module
from llorch.bench.roofline import Roofline, measure_roofline
from llorch.bench.work import Work
from llorch.engine.engine import Engine, open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.errors import LlorchError
from llorch.kernels import peaks
from llorch.kernels.jit import load_units
from llorch.settings import Settings
from llorch.trace.recorder import Recorder
from llorch.trace.run_timeline import operations_of_run
from llorch.trace.summary import summarise
from tests.support.generations import run

ROOF = Roofline(
    bytes_per_s=10, integer_macs_per_s=100, bfloat_macs_per_s=80, float_macs_per_s=50, cache_bytes_per_s=40
)
MOST = 1.05
"""Share of the roofline that a measurement may seem to reach: peaks themselves vary by some percent."""


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (Work("", 200, 1000, "integer", 20), 10),
        (Work("", 200, 1000, "bfloat", 20), 12.5),
        (Work("", 200, 1000, "float", 20), 20),
        (Work("", 200, 10, "float", 90), 9),
        (Work("", 200, 10, "integer", 0), 5),
    ],
    ids=["integers", "pairs", "floats", "memory", "caches"],
)
def test_the_slowest_of_what_work_needs_bounds_it(work: Work, seconds: float) -> None:
    assert ROOF.seconds(work) == seconds
    assert ROOF.share(work, 2 * seconds) == 0.5
    assert ROOF.share(work, 0) == 0


def test_peaks_are_measured_in_less_than_two_seconds_of_each_thread() -> None:
    load_units(peaks.UNITS)
    begun = time.process_time()
    roof = measure_roofline(2)
    assert time.process_time() - begun < 4
    assert 1e8 < roof.bytes_per_s < roof.cache_bytes_per_s < 1e13
    assert 1e7 < roof.float_macs_per_s < 1e14
    assert roof.bfloat_macs_per_s > 0.8 * roof.float_macs_per_s
    assert 1e7 < roof.integer_macs_per_s < 1e15


def test_too_little_memory_is_said_and_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline_module, "available_memory", lambda: 64 << 20)
    with pytest.raises(LlorchError, match="too little memory"):
        measure_roofline(1)


def test_no_operation_of_a_real_run_is_faster_than_the_roofline(real_model: Path) -> None:
    settings = Settings(model=str(real_model), threads=2, ctx_size=256)
    request = Request("a", tuple(range(5, 105)), SamplingParams(temperature=0), 8, ignore_eos=True)
    with open_configured(settings) as loaded:
        engine = Engine(loaded, settings)
        run(engine, request)
        engine.watcher = recorder = Recorder(loaded.llama)
        run(engine, request)
        roofline = measure_roofline(2)
        recording = recorder.finish()
        found = operations_of_run(recording, loaded.llama, settings.kv_type)
        summary = summarise(recording, found, roofline)
    shares = {
        f"{part.name} {label}": spent.roofline
        for part in summary.parts
        for label, spent in part.operations.items()
    }
    assert {name: share for name, share in shares.items() if not 0 < share <= MOST} == {}
