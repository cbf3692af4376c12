"""What the simulation is fed with, and what it is compared with: real engines and real servers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from llorch.engine.engine import open_configured
from llorch.settings import Settings
from tests.support.cluster import step_times
from tests.support.live_server import LiveServer
from tools.performance import check_simulation, measure_steps
from tools.performance.cluster import calibration
from tools.performance.cluster.calibration import http_costs, shared_core
from tools.performance.cluster.real_run import Server, run
from tools.performance.cluster.routing import ROUTERS
from tools.performance.cluster.step_clock import TimedEngine
from tools.performance.cluster.step_times import Load, StepTimes
from tools.performance.cluster.stream_client import ask
from tools.performance.cluster.workload import Job
from tools.performance.load_client import LoadError


def job(number: int, n_prompt: int, n_answer: int, arrival_s: float = 0.0) -> Job:
    token_ids = tuple(3 + (number + 7 * i) % 250 for i in range(n_prompt))
    return Job(number, arrival_s, token_ids, tuple(range(50, 50 + n_answer)))


def test_timed_steps_compute_what_they_are_told_to(long_model: Path) -> None:
    with open_configured(Settings(model=str(long_model), threads=1, batch_size=64)) as loaded:
        engine = TimedEngine(loaded, 3, 512, 64)
        engine.begin_answers(3, 20)
        engine.begin_prompt(100)
        loads = [engine.timed_step(rows).load for rows in (5, 0, 30)]
        contexts = [sum(s.n_computed for s in engine.snapshot().slots if not s.is_prefilling)]
    # Each sequence has one token more than the step before; the prompt goes on where it was.
    first = loads[0].decode_positions
    assert loads == [Load(3, 5, first, 10), Load(3, 0, first + 3, 0), Load(3, 30, first + 6, 30 * 5 + 435)]
    assert contexts == [first + 9]


def test_a_model_is_measured_and_the_file_can_be_used(
    long_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_steps, "N_DECODE", (0, 1, 2))
    times = measure_steps.measure(str(long_model), 1, 1, (0, 1, 8))
    with open_configured(Settings(model=str(long_model))) as loaded:
        n_layer, n_embd_kv = loaded.config.n_layer, loaded.config.n_embd_kv
    times.save(tmp_path / "steps.json")
    assert StepTimes.load(tmp_path / "steps.json") == times
    for costs in (times.alone, times.beside):
        assert costs.forward[0][0] == 0
        assert all(value > 0 for row in costs.outside for value in row[1:])
        assert costs.decode_position >= 0 <= costs.prompt_position
    assert times.about["kv_bytes_per_token"] == n_layer * 2 * 2 * n_embd_kv  # keys and values, two bytes each
    assert times.about["n_threads"] == 1


def test_the_client_counts_tokens_and_bytes_and_sees_the_cache(server: LiveServer) -> None:
    first, again = (asyncio.run(ask(server.port, job(900, 100, 12))) for _ in range(2))
    assert len(first.token_s) == len(again.token_s) == 12
    assert list(first.token_s) == sorted(first.token_s)
    assert (first.n_cached, again.n_cached) == (0, 96)
    assert first.n_bytes > 12 * 50


def test_the_client_refuses_an_error(server: LiveServer) -> None:
    with pytest.raises(LoadError, match="no whole answer"):
        asyncio.run(ask(server.port, Job(0, 0.0, (10**9,), (5,))))


def test_a_real_run_has_the_figures_of_a_simulated_one(server: LiveServer) -> None:
    target = Server(server.port, server.process.pid)
    jobs = [job(i, 20, 6, arrival_s=i / 50) for i in range(3)]
    tally = run([target], ROUTERS["least-loaded"](2), jobs)
    figures = tally.figures()
    assert (figures["finished"], tally.n_tokens, len(tally.first_s)) == (3, 18, 3)
    assert all(seconds > 0 for seconds in tally.first_s)
    assert figures["tokens_per_s"] > 0
    assert figures["busy_s"] > 0


def test_what_http_takes_is_told_from_one_stream_and_from_several(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "MANY", 40)  # the context of this server is short
    replica = Server(server.port, server.process.pid)
    costs = http_costs([replica], times=1)
    assert 50 < costs.token_bytes < 500
    assert costs.enter_s > 0  # the others are differences, which one pause of the machine turns around
    assert min(costs.wake_s, costs.token_s, costs.request_s, costs.client_s, costs.client_request_s) >= 0
    monkeypatch.setattr(calibration, "SEVERAL", 1)  # one server stands for both, and has few places
    assert 1 <= shared_core(replica, replica, times=1) < 100


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_comparison_runs_servers_on_cores_and_says_what_is_too_far_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, steps = tmp_path / "check.json", tmp_path / "steps.json"
    step_times().save(steps)
    words = ["-m", "demo", "--replicas", "1", "2", "--jobs", "2", "--seconds", "4", "-o", str(out)]
    words += ["--within", "1e9", "--rounds", "1"]
    assert check_simulation.main([*words, "--steps", str(steps)]) == 0
    assert check_simulation.main([*words, "--more"]) == 0
    assert check_simulation.main([*words, "--more", "--seed", "1"]) == 2
    assert "everything is within" in capsys.readouterr().out
    document = json.loads(out.read_text())
    (of_model,) = document["models"]
    assert len(of_model["rounds"]) == 2
    assert [(run["replicas"], run["load"]) for run in of_model["runs"]] == [
        (n, load) for n in (1, 2) for load in ("burst", "stream")
    ]
    finished = [(run["real"]["finished"], run["simulated"]["finished"]) for run in of_model["runs"]]
    assert [of for of, run in zip(finished, of_model["runs"], strict=True) if run["load"] == "burst"] == [
        (2 * n, 2 * n) for n in (1, 2)
    ]
    assert all(0 < simulated <= real for real, simulated in finished)  # its invented steps may be too slow
    assert out.with_suffix(".md").read_text().count("| burst |") == 2
