"""`llorch trace --simulate` as a user runs it: a table, numbers, and timelines beside the measured one."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from tests.support.perfetto.trace_file import Slice, overlaps
from tests.support.perfetto.trace_processor import loaded_trace

N_TOKENS = 12
WORDS = ("trace", "Once upon a time", "-n", str(N_TOKENS), "--temperature", "0", "-t", "2")
POLICIES = [
    (1, "none"), (1, "shared"),
    (2, "operations"), (2, "heads"), (2, "2 tokens"), (2, "shared"),
    (4, "operations"), (4, "heads"), (4, "2 tokens"), (4, "4 tokens"), (4, "shared"),
]  # fmt: skip


@pytest.fixture(scope="module")
def path(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace with simulated steps."""
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    assert main([*WORDS, "-m", str(tiny_model), "-o", str(path), "--simulate", "4,2,1,2", "--json"]) == 0
    return path


@pytest.fixture(scope="module")
def trace(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


@pytest.fixture(scope="module")
def processes(trace: dict[str, Any]) -> dict[str, dict[str, list[Slice]]]:
    """Slices by process and track."""
    events = trace["traceEvents"]
    named = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    threads = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    found: dict[str, dict[str, list[Slice]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        if event["ph"] == "X":
            begin_ns, n_ns = (round(1000 * event[key]) for key in ("ts", "dur"))
            track = threads[event["tid"]]
            piece = Slice(track, event["name"], event["cat"], begin_ns, begin_ns + n_ns, event["args"])
            found[named[event["pid"]]][track].append(piece)
    return found


def name(engines: int, policy: str) -> str:
    return f"simulated: {engines} engine{'s' if engines > 1 else ''}, {policy}"


def test_every_number_of_engines_is_simulated_once_with_every_policy(trace: dict[str, Any]) -> None:
    outcomes = trace["llorch"]["simulated"]["outcomes"]
    assert [(o["engines"], o["policy"]) for o in outcomes] == POLICIES
    for outcome in outcomes:
        assert 0 < outcome["utilisation"] <= 1
        assert outcome["seconds_each"] == outcome["makespan_s"] / outcome["in_flight"]
        assert sum(outcome["critical_path"].values()) == pytest.approx(outcome["makespan_s"])
        assert outcome["shortest_s"] <= outcome["makespan_s"] * (1 + 1e-9)
        assert len(outcome["engine_utilisation"]) == outcome["engines"]
    alone = outcomes[0]
    assert alone["makespan_s"] == pytest.approx(trace["llorch"]["simulated"]["work_s"])
    assert (alone["speedup"], alone["utilisation"]) == (1, 1)
    assert all(o["speedup"] <= o["engines"] * (1 + 1e-9) for o in outcomes)


def test_simulated_timelines_stand_beside_a_measured_step_of_the_same_file(
    trace: dict[str, Any], processes: dict[str, dict[str, list[Slice]]]
) -> None:
    measured = {s.begin_ns for s in processes["compute threads"]["thread 0"] if s.category == "operation"}
    for outcome in trace["llorch"]["simulated"]["outcomes"]:
        tracks = processes[name(outcome["engines"], outcome["policy"])]
        assert set(tracks) <= {f"engine {i}" for i in range(outcome["engines"])}
        slices = [piece for track in tracks.values() for piece in track]
        assert {piece.category for piece in slices} == {"simulated"}
        begin_ns, end_ns = min(s.begin_ns for s in slices), max(s.end_ns for s in slices)
        assert end_ns - begin_ns <= 1e9 * outcome["makespan_s"] + 2
        if outcome["policy"] != "shared":  # whose threads have to begin first
            assert any(abs(begin_ns - begun) <= 2 for begun in measured)
            assert end_ns - begin_ns >= 1e9 * outcome["makespan_s"] - 2
        for track in tracks.values():
            assert overlaps(sorted(track, key=lambda s: (s.begin_ns, -s.end_ns))) == []


def test_heads_run_side_by_side_and_tokens_behind_each_other(
    processes: dict[str, dict[str, list[Slice]]],
) -> None:
    parts = {
        engine: {s.args.get("part") for s in track if s.name == "attend"}
        for engine, track in processes[name(2, "heads")].items()
    }
    assert sorted(len(found) for found in parts.values()) == [1, 1]
    assert set.union(*parts.values()) == {"heads 1/2", "heads 2/2"}
    tokens = {
        s.args["part"].split(", ")[-1]
        for track in processes[name(4, "4 tokens")].values()
        for s in track
        if "part" in s.args
    }
    assert tokens == {f"token {i}" for i in (1, 2, 3, 4)}


def test_one_engine_runs_every_operation_in_order(processes: dict[str, dict[str, list[Slice]]]) -> None:
    alone = processes[name(1, "none")]["engine 0"]
    labels = [s.name for s in alone]
    assert labels[:4] == ["embed", "norm", "attn_q", "attn_k"]
    assert labels[-1] == "output"
    assert all(s.args["critical"] for s in alone)
    assert [s.name for s in processes[name(1, "shared")]["engine 0"]] == labels


def test_the_check_predicts_the_measured_steps_and_states_the_difference(trace: dict[str, Any]) -> None:
    for check in trace["llorch"]["simulated"]["checks"]:
        assert check["threads"] in (1, 2)
        assert check["difference"] == pytest.approx(check["predicted_s"] / check["measured_s"] - 1)
    own = [c for c in trace["llorch"]["simulated"]["checks"] if c["threads"] == c["from_threads"]]
    assert own


@pytest.mark.trace_processor
def test_perfettos_own_trace_processor_finds_simulated_engines_beside_measured_threads(
    path: Path, processes: dict[str, dict[str, list[Slice]]]
) -> None:
    with loaded_trace(path) as loaded:
        assert loaded.rows("select name from stats where severity != 'info' and value > 0") == []
        counted = loaded.rows(
            "select process.name, count(*), sum(dur), max(depth) from slice "
            "join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid) "
            "where category = 'simulated' group by 1 order by 1"
        )
        assert [row[:3] for row in counted] == sorted(
            (process, len(slices), sum(s.end_ns - s.begin_ns for s in slices))
            for process, tracks in processes.items()
            if process.startswith("simulated")
            for slices in [[piece for track in tracks.values() for piece in track]]
        )
        assert max(depth for *_, depth in counted) <= 1, "at most a wait for memory inside an operation"


def test_the_prediction_on_one_thread_is_within_8_percent_of_the_measurement(
    real_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With two threads the figure depends on who else uses the machine: `tools.trace.check_simulation` prints it."""
    words = ["trace", "Once upon a time", "-n", "24", "-t", "1", "-m", str(real_model), "--json"]
    assert main([*words, "-o", str(tmp_path / "t.json"), "--simulate", "1"]) == 0
    (check,) = json.loads(capsys.readouterr().out)["simulated"]["checks"]
    assert abs(check["difference"]) < 0.08
    assert check["steps"] == 23


def test_the_table_names_the_policies_and_the_check_the_difference(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "-m", str(tiny_model), "-o", str(tmp_path / "t.json"), "--simulate", "2", "--observed"]
    assert main(words) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    begin = next(i for i, line in enumerate(lines) if line[0].startswith("What if: "))
    headings = [cell.strip() for cell in lines[begin + 1] if cell]
    assert headings == [
        "engines",
        "policy",
        "makespan",
        "ms/token",
        "speed-up",
        "busy",
        "memory",
        "critical path",
    ]
    rows = [[cell.strip() for cell in line if cell] for line in lines[begin + 2 : begin + 6]]
    assert [(row[0], row[1]) for row in rows] == [("2", policy) for _, policy in POLICIES[2:6]]
    assert lines[begin + 6][0].startswith("Check: 2 threads: predicted ")
    simulated = json.loads((tmp_path / "t.json").read_bytes())
    names = {e["name"] for e in simulated["traceEvents"] if e.get("cat") == "simulated"}
    assert {"softmax_maximum", "softmax_exponential", "softmax_normalise", "values"} <= names
    assert "attend" not in names, "the observed program has its parts"


def test_without_the_flag_nothing_is_simulated(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.json"
    assert main([*WORDS, "-m", str(tiny_model), "-o", str(path), "--json"]) == 0
    assert "simulated" not in json.loads(capsys.readouterr().out)
    assert "simulated" not in path.read_text()


@pytest.mark.parametrize(
    "text", ["0", "-1", "1,0", "65", "junk", "", "1,,2", "1.5", "nan", "1,2,3,4,5,6,7,8,9", "9" * 5000]
)
def test_numbers_of_engines_that_make_no_sense_are_one_clear_error(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["trace", "hi", "-o", str(tmp_path / "t.json"), f"--simulate={text}"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "argument --simulate: expected " in line
    assert len(line) < 300
    assert not (tmp_path / "t.json").exists()


def test_steps_of_a_server_are_not_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "--server", "http://127.0.0.1:9", "--simulate", "2"]) == 2
    assert "--simulate: it needs a run of this command's own" in capsys.readouterr().err
