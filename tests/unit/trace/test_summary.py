"""Where the time went: nothing counts twice, and nothing is lost."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from llorch.bench.roofline import Roofline
from llorch.bench.work import Work
from llorch.trace.operations import Operation, operations
from llorch.trace.pictures import summary_picture
from llorch.trace.records import ChunkRecord, EngineState, Recording, StepRecord
from llorch.trace.summary import Summary, summarise
from llorch.trace.summary_text import summary_text

MS = 1_000_000
ROOF = Roofline(
    bytes_per_s=1e9,
    integer_macs_per_s=1e9,
    bfloat_macs_per_s=6e8,
    float_macs_per_s=5e8,
    cache_bytes_per_s=1e10,
)
LABELS = [("norm", 0), ("ffn_up", 0), ("ffn_up", 1), ("output", -1)]
WORKS = [
    Work("1x8", 1_000_000, 0, "float"),
    Work("1x8 @ 8x8", 1_000_000, 1_000_000, "integer", 1_000_000),
    Work("1x8 @ 8x8", 1_000_000, 2_000_000, "integer", 1_000_000),
    Work("1x8 @ 8x9", 3_000_000, 500_000, "float", 2_000_000),
]
STATE = EngineState(1, 0, 4, 3, 0, 0)


def step_at(begun_ms: int, *, is_prompt: bool, n_tokens: int) -> tuple[StepRecord, list[Operation]]:
    """One millisecond of scheduling, two of sampling; thread 1 begins later and waits at the end of the first."""
    begins = np.array([[2, 3], [5, 5], [10, 10], [15, 15]])
    ends = np.array([[5, 4], [10, 10], [15, 14], [20, 20]])
    stamps = (np.stack((begins, ends), -1) + begun_ms) * MS
    chunk = ChunkRecord("a", 1, n_tokens, 0, is_prompt, 1)
    forward = ((begun_ms + 1) * MS, (begun_ms + 21) * MS)
    step = StepRecord(begun_ms * MS, forward, (begun_ms + 23) * MS, (chunk,), 1, stamps, STATE)
    return step, operations(step, LABELS, WORKS)


@pytest.fixture
def summary() -> Summary:
    prompt, *decode = (step_at(10, is_prompt=True, n_tokens=7), step_at(40, is_prompt=False, n_tokens=1),
                       step_at(65, is_prompt=False, n_tokens=1))  # fmt: skip
    steps = [prompt, *decode]
    recording = Recording(8 * MS, 90 * MS, tuple(step for step, _ in steps), 0)
    return summarise(recording, [done for _, done in steps], ROOF)


def test_times_of_a_part_add_up_to_its_steps_and_those_of_all_to_the_recording(summary: Summary) -> None:
    prompt, decode = summary.parts
    assert (prompt.name, prompt.n_steps, prompt.n_rows) == ("prompt", 1, 7)
    assert (decode.name, decode.n_steps, decode.n_rows) == ("decode", 2, 2)
    for part in summary.parts:
        of_operations = sum(spent.seconds for spent in part.operations.values())
        of_layers = sum(spent.seconds for spent in part.layers.values())
        assert of_operations == pytest.approx(of_layers)
        around = part.scheduling_s + part.calling_s + part.sampling_s
        assert of_operations + part.waiting_s + around == pytest.approx(part.seconds)
        assert part.seconds == pytest.approx(part.n_steps * 0.023)
        assert part.scheduling_s == pytest.approx(part.n_steps * 0.001)
        assert part.sampling_s == pytest.approx(part.n_steps * 0.002)
    assert summary.seconds == pytest.approx(0.082)
    assert summary.between_s == pytest.approx(0.082 - 3 * 0.023)


def test_an_operation_has_the_mean_of_its_threads_and_rates_of_all_together(summary: Summary) -> None:
    prompt = summary.parts[0]
    norm, up = prompt.operations["norm"], prompt.operations["ffn_up"]
    assert norm.seconds == pytest.approx(0.002)  # 3 ms on one thread, 1 ms on the other
    assert norm.waiting_s == pytest.approx(0.0005)
    assert norm.elapsed_s == pytest.approx(0.003)
    assert up.n == 2
    assert up.gb_s == pytest.approx(0.2)
    assert up.gmac_s == pytest.approx(0.3)
    assert up.roofline == pytest.approx(0.3)  # 1 ms and 2 ms of 10 ms
    assert next(iter(prompt.operations)) == "ffn_up"
    assert list(prompt.layers) == [-1, 0, 1]
    assert prompt.layers[0].n_bytes == 2_000_000


def test_the_text_is_aligned_and_names_everything(summary: Summary) -> None:
    text = summary_text(summary)
    tables = [paragraph.splitlines() for paragraph in text.split("\n\n")]
    for title, *lines in (tables[0], tables[2]):
        assert title.startswith(("prompt: 7 rows in 1 step, 23.00 ms", "decode: 2 rows in 2 steps, 46.00 ms"))
        header, *rows = lines
        ends = [header.index(name) + len(name) for name in ("ms", "share")]
        names = ["ffn_up", "output", "norm", "at barriers", "scheduling", "calling", "sampling", "all"]
        assert [row[: len(name)] for row, name in zip(rows, names, strict=True)] == names
        assert all(row[end - 1] != " " for row in rows for end in ends)
    assert [line.split()[0] for line in tables[1][1:]] == ["outside", "0", "1"]
    assert "in all 82.00 ms: prompt 23.00 ms, decode 46.00 ms, between steps 13.00 ms" in text
    assert "memory 1.0 GB/s, first caches 10 GB/s, integers 1 GMAC/s" in text
    assert "not kept" not in text


def test_steps_that_were_not_kept_are_named() -> None:
    step, done = step_at(0, is_prompt=False, n_tokens=1)
    text = summary_text(summarise(Recording(0, 50 * MS, (step,), 3), [done], ROOF))
    assert "3 later steps were not kept" in text
    assert "prompt" not in text


def test_the_numbers_are_plain_json(summary: Summary) -> None:
    described = json.loads(json.dumps(summary.described()))
    assert described["prompt"]["operations"]["ffn_up"]["macs"] == 3_000_000
    assert described["decode"]["layers"]["-1"]["n"] == 2
    assert described["roofline"]["bytes_per_s"] == 1e9


def pixels_of(png: bytes | None) -> NDArray[np.uint8]:
    assert png is not None
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_the_picture_has_a_panel_for_each_part_and_one_for_the_roofline(summary: Summary) -> None:
    both = pixels_of(summary_picture(summary, "a model"))
    alone = Summary(summary.seconds, summary.parts[:1], ROOF, 0)
    one = pixels_of(summary_picture(alone, "a model"))
    assert both.shape[0] - one.shape[0] == one.shape[0] - 190 - 330
    for colour in ((31, 105, 170), (143, 188, 224), (217, 120, 20)):  # of the first three operations
        assert (np.abs(both.astype(int) - colour).max(-1) < 12).sum() > 200


def test_a_step_without_stamps_counts_as_a_call() -> None:
    step, _ = step_at(0, is_prompt=False, n_tokens=1)
    (part,) = summarise(Recording(0, 30 * MS, (step,), 0), [[]], ROOF).parts
    assert part.calling_s == pytest.approx(0.020)
    assert part.operations == {}
