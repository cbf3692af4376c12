"""`llorch trace` as a user runs it: the file holds every operation of every step, and the time adds up."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.open_model import open_model
from tests.support.perfetto.trace_file import TraceFile, covered_ns, overlaps, read_trace
from tests.support.perfetto.trace_processor import loaded_trace

N_TOKENS = 6
THREADS = ("thread 0", "thread 1")
PROMPT = "Once upon a time there was"

LEAVES = ("operation", "barrier", "phase")
"""What a thread does, or waits for. Steps and layers only group it."""


@pytest.fixture(scope="module")
def written(real_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of a real model on two threads."""
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    words = ["trace", PROMPT, "-m", str(real_model), "-n", str(N_TOKENS), "--temperature", "0", "-t", "2"]
    assert main([*words, "-o", str(path), "--json"]) == 0
    return path


@pytest.fixture(scope="module")
def trace(written: Path) -> TraceFile:
    return read_trace(written)


@pytest.fixture(scope="module")
def labels(real_model: Path) -> list[tuple[str, int]]:
    """Every instruction of the model's forward pass."""
    with open_model(real_model, n_threads=2) as loaded:
        return loaded.llama.labels


def test_every_instruction_of_every_layer_is_there_in_every_step(
    trace: TraceFile, labels: list[tuple[str, int]]
) -> None:
    assert set(trace.slices) == {*THREADS, "lane 1"}
    steps = [s.args["step"] for s in trace.slices["thread 0"] if s.category == "step"]
    assert steps == list(range(N_TOKENS)), "the prompt gives the first token"
    for slices in (trace.slices[name] for name in THREADS):
        by_step: dict[int, list[tuple[str, int]]] = {}
        for found in slices:
            if found.category == "operation":
                by_step.setdefault(found.args["step"], []).append((found.name, found.args["layer"]))
        assert all(names == labels for names in by_step.values())
        if slices is trace.slices["thread 0"]:
            assert list(by_step) == steps
    phases = Counter(s.name for s in trace.of("phase"))
    assert phases == dict.fromkeys(("schedule", "forward", "sample"), N_TOKENS) | {
        "between steps": N_TOKENS - 1
    }


def test_the_generation_has_a_lane_with_its_tokens(trace: TraceFile) -> None:
    lane = trace.slices["lane 1"]
    assert [s.name for s in lane if s.category == "token"] == [f"token {i}" for i in range(N_TOKENS)]
    assert sum(s.name.startswith("prefill") for s in lane) == 1


def test_slices_of_a_track_lie_apart_or_inside_each_other(trace: TraceFile) -> None:
    for slices in trace.slices.values():
        assert overlaps(slices) == []
        leaves = [s for s in slices if s.category in ("operation", "barrier")]
        leaves.sort(key=lambda found: (found.begin_ns, found.end_ns))  # some take less than a nanosecond
        assert all(a.end_ns <= b.begin_ns for a, b in itertools.pairwise(leaves))


def test_what_every_thread_does_adds_up_to_the_wall_time(trace: TraceFile) -> None:
    steps = trace.of("step")
    wall_ns = max(s.end_ns for s in steps) - min(s.begin_ns for s in steps)
    for slices in (trace.slices[name] for name in THREADS):
        busy_ns = covered_ns(s for s in slices if s.category in LEAVES)
        assert 0.95 * wall_ns <= busy_ns <= wall_ns


READINGS_NS = 40
"""From the end of an operation to the next one's begin, where both are noted; the smallest model's take 300."""


def test_operations_and_barriers_fill_the_time_between_the_first_and_the_last_of_a_step(
    trace: TraceFile,
) -> None:
    for slices in (trace.slices[name] for name in THREADS):
        for step in trace.of("step"):
            inside = [s for s in slices if step.begin_ns <= s.begin_ns and s.end_ns <= step.end_ns]
            done = [s for s in inside if s.category == "operation"]
            if not done:
                continue  # a small step takes one thread if that is faster
            span_ns = done[-1].end_ns - done[0].begin_ns
            waits = [s for s in inside if s.name == "barrier" and s.begin_ns < done[-1].end_ns]
            assert covered_ns([*done, *waits]) + READINGS_NS * len(done) >= 0.95 * span_ns


def test_operations_carry_shape_work_rates_and_share_of_the_roofline(trace: TraceFile) -> None:
    roofline = trace.about["roofline"]
    for found in trace.of("operation"):
        args = found.args
        assert list(args) == ["layer", "step", "rows", "shape", "bytes", "macs", "gb_s", "gmac_s", "roofline"]
        assert args["bytes"] > 0 or args["macs"] == 0
        assert args["roofline"] >= 0
    product = [
        s for s in trace.of("operation") if (s.name, s.args["step"], s.args["layer"]) == ("ffn_down", 1, 2)
    ]
    seconds = (max(s.end_ns for s in product) - min(s.begin_ns for s in product)) / 1e9
    args = product[0].args
    assert args["rows"] == 1
    assert args["macs"] > 1000
    assert args["gb_s"] == pytest.approx(args["bytes"] / seconds / 1e9, abs=1e-3)
    assert args["gmac_s"] == pytest.approx(args["macs"] / seconds / 1e9, abs=1e-3)
    most = max(roofline["integer_macs_per_s"], roofline["float_macs_per_s"])
    assert args["roofline"] >= args["macs"] / most / seconds - 1e-4


def test_the_file_says_what_it_shows_and_sums_it_up(trace: TraceFile, labels: list[tuple[str, int]]) -> None:
    about = trace.about
    assert (about["n_threads"], about["kv_type"], about["n_dropped_steps"]) == (2, "f16", 0)
    assert about["model"]["name"]
    assert about["cpu"]
    assert [step["rows"] for step in about["steps"]][1:] == [1] * (N_TOKENS - 1)
    assert {(label, int(layer)) for label, layers in about["operations"].items() for layer in layers} == set(
        labels
    )
    total = about["operations"]["ffn_down"]["0"]
    same = [s for s in trace.slices["thread 0"] if s.name == "ffn_down" and s.args.get("layer") == 0]
    assert total["n"] == len(same) == N_TOKENS
    assert total["macs"] == sum(s.args["macs"] for s in same)
    assert total["bytes"] == sum(s.args["bytes"] for s in same)
    assert total["seconds"] >= sum(s.end_ns - s.begin_ns for s in same) / 1e9
    assert total["roofline"] > 0


def test_json_names_the_file_and_counts_its_events(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.json"
    assert (
        main(["trace", "Once", "-m", str(tiny_model), "-n", "2", "-o", str(path), "--json", "--warm", "0"])
        == 0
    )
    out, log = capsys.readouterr()
    trace = read_trace(path)
    assert json.loads(out) == {"path": str(path), "n_events": sum(map(len, trace.slices.values()))}
    assert log == ""


def test_two_lines_say_what_was_written_and_how_to_open_it(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["trace", "Once", "-m", str(tiny_model), "-n", "3"]) == 0
    opened, ran = capsys.readouterr().out.splitlines()
    assert opened.startswith("trace.json: ")
    assert "https://ui.perfetto.dev" in opened
    assert "nothing is uploaded" in opened
    assert " of answer in " in ran
    assert ran.endswith("3 steps")


@pytest.mark.trace_processor
def test_perfettos_own_trace_processor_reads_the_same(
    written: Path, trace: TraceFile, labels: list[tuple[str, int]]
) -> None:
    with loaded_trace(written) as loaded:
        assert loaded.rows("select name from stats where severity != 'info' and value > 0") == []
        counted = loaded.rows("select category, count(*), sum(dur) from slice group by category order by 1")
        slices = [s for track in trace.slices.values() for s in track]
        assert counted == sorted(
            (
                category,
                sum(s.category == category for s in slices),
                sum(s.end_ns - s.begin_ns for s in slices if s.category == category),
            )
            for category in {s.category for s in slices}
        )
        # An operation of less than a nanosecond begins when the next one does, and is shown inside it.
        depths = dict(loaded.rows("select category, max(depth) from slice where dur > 0 group by category"))
        assert depths["step"] == 0, "nothing overlaps: Perfetto would have moved it deeper"
        assert depths["operation"] <= 3
        strays = """
            select count(*) from slice child join slice parent on child.parent_id = parent.id
            where child.ts < parent.ts or child.ts + child.dur > parent.ts + parent.dur"""
        assert loaded.rows(strays) == [(0,)]
        covered = """
            with step as (select min(ts) begun, max(ts + dur) ended from slice where category = 'step')
            select thread.name, sum(slice.dur) * 1.0 / (select ended - begun from step)
            from slice join thread_track on slice.track_id = thread_track.id join thread using (utid)
            where category in ('operation', 'barrier')
               or slice.name in ('schedule', 'sample', 'between steps') group by 1 order by 1"""
        shares = dict(loaded.rows(covered))
        assert list(shares) == ["thread 0", "thread 1"]
        if len(labels) >= 200:  # in a shorter pass, Python's part of it counts for more
            assert all(0.95 <= share <= 1.0 for share in shares.values()), shares
        found = loaded.rows(
            "select distinct name, extract_arg(arg_set_id, 'args.layer') from slice where category = 'operation'"
        )
        assert set(found) == set(labels)
