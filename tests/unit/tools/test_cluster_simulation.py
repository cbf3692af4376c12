"""Runs in virtual time whose figures can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tests.support.cluster import ANSWER_S, PASS_S, POSITION_S, ROW_S, step_times
from tools.performance.cluster.autoscaling import Autoscaler, Scaling
from tools.performance.cluster.calibration import beyond
from tools.performance.cluster.figures import LogHistogram, Tally
from tools.performance.cluster.replica import HTTPCosts, ReplicaSettings
from tools.performance.cluster.routing import ROUTERS
from tools.performance.cluster.simulation import RETRY_S, Fleet, Simulation
from tools.performance.cluster.workload import Job

SETTINGS = ReplicaSettings(parallel=2, ctx_size=512, max_waiting=0)


def job(number: int, arrival_s: float = 0.0, n_prompt: int = 10, n_answer: int = 3) -> Job:
    return Job(
        number, arrival_s, tuple(range(3 + number, 3 + number + n_prompt)), tuple(range(50, 50 + n_answer))
    )


def simulation(
    fleet: Fleet,
    http: HTTPCosts | None = None,
    settings: ReplicaSettings = SETTINGS,
    router: str = "round-robin",
) -> Simulation:
    return Simulation(step_times(), settings, http or HTTPCosts(), fleet, ROUTERS[router](settings.parallel))


def test_one_request_takes_a_step_for_its_prompt_and_one_for_each_further_token() -> None:
    tally = simulation(Fleet(1)).run([job(0, arrival_s=5.0)])
    prompt_s = PASS_S + 10 * ROW_S + 45 * POSITION_S
    answer_s = [PASS_S + ANSWER_S + context * POSITION_S for context in (10, 11)]
    assert tally.first_s == [pytest.approx(prompt_s)]
    assert tally.end_s == pytest.approx(5.0 + prompt_s + sum(answer_s))
    assert tally.figures()["tokens_per_s"] == pytest.approx(3 / (prompt_s + sum(answer_s)))
    assert tally.figures()["gap_p50_ms"] == pytest.approx(1000 * answer_s[0], rel=0.01)
    assert tally.busy_s == pytest.approx(prompt_s + sum(answer_s))


def test_http_delays_each_token_and_takes_its_time_from_the_next_step() -> None:
    plain = simulation(Fleet(1)).run([job(0)])
    costs = HTTPCosts(request_s=0.1, token_s=0.001, wake_s=0.0015)
    tally = simulation(Fleet(1), costs).run([job(0)])
    assert tally.first_s[0] == pytest.approx(plain.first_s[0] + 0.1 + 0.0025)
    assert tally.end_s == pytest.approx(plain.end_s + 0.1 + 3 * 0.0025)
    assert tally.loop_s == pytest.approx(0.1 + 3 * 0.0025)
    assert tally.busy_s == pytest.approx(plain.busy_s + tally.loop_s)


def test_a_request_takes_its_time_of_the_thread_that_computes_too() -> None:
    plain = simulation(Fleet(1)).run([job(0)])
    tally = simulation(Fleet(1), HTTPCosts(enter_s=0.1, step_s=0.01)).run([job(0)])
    assert tally.first_s[0] == pytest.approx(plain.first_s[0] + 0.11)
    assert tally.end_s == pytest.approx(plain.end_s + 0.13)


def test_what_the_table_of_steps_has_counted_is_taken_off_what_was_measured() -> None:
    times = step_times()
    measured = HTTPCosts(wake_s=0.1, step_s=0.5, enter_s=9.0)
    found = beyond(measured, times, times.alone)
    step_s = PASS_S + 2.5 * ANSWER_S + 2.5 * 80 * POSITION_S
    enter_s = (PASS_S + 4 * 48 * ROW_S + 4 * 48 * 47 / 2 * POSITION_S) / 4
    assert found.wake_s == 0.1
    assert found.step_s == pytest.approx(0.5 - step_s)
    assert found.enter_s == pytest.approx(9.0 - enter_s - found.step_s / 4)
    assert beyond(HTTPCosts(), times, times.alone) == HTTPCosts()


def test_tokens_of_a_step_wake_the_event_loop_once() -> None:
    costs = HTTPCosts(wake_s=0.001)
    assert simulation(Fleet(1), costs).run([job(0, n_answer=9)]).loop_s == pytest.approx(0.009)
    late = job(
        1, arrival_s=0.0001, n_answer=9
    )  # its prompt is read in three steps, beside the other's answer
    both = simulation(Fleet(1), costs).run([job(0, n_answer=9), late])
    assert both.n_tokens == 18
    assert both.loop_s == pytest.approx(0.012)


def test_tokens_that_the_event_loop_could_not_send_meanwhile_are_sent_together() -> None:
    step_s = PASS_S + ANSWER_S
    costs = HTTPCosts(wake_s=2 * step_s)
    tally = simulation(Fleet(1), costs).run([job(0, n_answer=60)])
    assert tally.n_tokens == 60
    assert tally.loop_s < 50 * costs.wake_s
    assert tally.gaps.percentile(0.1) < 1e-6


def test_a_client_on_the_same_core_takes_its_time_from_the_replica() -> None:
    plain = simulation(Fleet(1)).run([job(0)])
    costs = HTTPCosts(client_request_s=0.002, client_wake_s=0.0005, client_s=0.0005)
    tally = simulation(Fleet(1), costs).run([job(0)])
    assert tally.first_s[0] == pytest.approx(plain.first_s[0] + 0.003)
    assert tally.end_s == pytest.approx(plain.end_s + 0.005)
    assert tally.busy_s == pytest.approx(plain.busy_s)  # it is no part of the replica
    apart = simulation(Fleet(1, 2), costs).run([job(0)])
    assert apart.end_s == pytest.approx(
        plain.end_s + 0.003
    )  # but for the first and the last, while steps go on


def test_steps_take_longer_on_a_core_that_replicas_share() -> None:
    jobs = [job(0, n_answer=40), job(1, n_answer=40)]
    plain, cold = (simulation(Fleet(2, 1, n_machines=1, shared=f)).run(jobs) for f in (1.0, 1.5))
    assert cold.end_s == pytest.approx(1.5 * plain.end_s, rel=0.01)


@pytest.mark.parametrize(("n_cores", "factor"), [(2, 1), (1, 2)])
def test_two_replicas_are_as_fast_as_one_on_two_cores_and_half_as_fast_on_one(
    n_cores: int, factor: float
) -> None:
    alone = simulation(Fleet(1)).run([job(0)])
    both = simulation(Fleet(2, n_cores, n_machines=1)).run([job(0), job(1)])
    assert both.end_s == pytest.approx(factor * alone.end_s)
    assert both.busy_s == pytest.approx(2 * alone.busy_s)


def test_sequences_of_one_replica_share_steps() -> None:
    alone = simulation(Fleet(1)).run([job(0, n_answer=50)])
    both = simulation(Fleet(1)).run([job(0, n_answer=50), job(1, n_answer=50)])
    assert both.end_s < 1.2 * alone.end_s


def test_who_finds_no_place_comes_back_and_gives_up_in_the_end() -> None:
    patient = simulation(Fleet(1)).run([job(i, n_answer=20) for i in range(3)])
    assert (patient.n_finished, patient.n_refused) == (3, 0)
    assert max(patient.first_s) > RETRY_S
    crowded = simulation(Fleet(1)).run([job(i, n_answer=400) for i in range(3)])
    assert (crowded.n_finished, crowded.n_refused) == (2, 1)


def test_a_repeated_prompt_is_found_in_the_cache_of_its_replica() -> None:
    again = [job(0, 0.0, 100), Job(1, 10.0, job(0, 0.0, 100).token_ids, (50,))]
    tally = simulation(Fleet(1)).run(again)
    assert tally.n_cached == 96  # three whole blocks
    assert simulation(Fleet(2)).run(again).n_cached == 0  # each request went to another replica
    assert simulation(Fleet(2), router="prefix").run(again).n_cached == 96


def failing(at_s: float, jobs: Sequence[Job]) -> Tally:
    run = simulation(Fleet(2, start_s=5.0))
    run.at(at_s, lambda: run.fail(0))
    return run.run(jobs)


def test_only_the_requests_of_a_replica_that_fails_are_sent_again() -> None:
    jobs = [job(0, n_answer=30), job(1, n_answer=30)]
    quiet = simulation(Fleet(2)).run(jobs)
    tally = failing(0.3, jobs)
    assert (tally.n_finished, tally.n_restarted, tally.n_refused) == (2, 1, 0)
    assert tally.end_s == pytest.approx(0.3 + RETRY_S + quiet.end_s, rel=0.1)


def test_a_replica_that_failed_is_replaced() -> None:
    run = simulation(Fleet(1, start_s=2.0))
    run.at(0.1, lambda: run.fail(0))
    tally = run.run([job(0), job(1, arrival_s=1.0)])
    assert (tally.n_finished, tally.n_refused) == (2, 0)
    assert list(run.n_open) == [1]


def test_a_replica_that_leaves_finishes_what_it_has() -> None:
    run = simulation(Fleet(2))
    run.at(0.1, lambda: run.retire(0))
    tally = run.run([job(0, n_answer=30), job(1), *(job(i, arrival_s=0.2) for i in (2, 3))])
    assert (tally.n_finished, tally.n_restarted) == (4, 0)
    assert list(run.n_open) == [1]


def test_replicas_are_added_under_load_and_taken_away_afterwards() -> None:
    settings = ReplicaSettings(parallel=2, ctx_size=512, max_waiting=50)
    run = simulation(Fleet(1), settings=settings)
    scaling = Scaling(target=2, least=1, most=4, every_s=1.0, down_after_s=5.0)
    Autoscaler(run, scaling, start_s=2.0, until_s=100.0)
    seen: list[int] = []
    for second in range(100):
        run.at(second + 0.5, lambda: seen.append(len(run.n_open)))
    tally = run.run([job(i, arrival_s=i / 4, n_answer=60) for i in range(60)])
    assert tally.n_finished == 60
    assert max(seen) == 4
    assert seen[-1] == 1
    assert seen[:3] == [1, 1, 1]  # one decides after a second, and a replica starts in two


def test_a_histogram_has_the_percentiles_within_a_percent() -> None:
    histogram = LogHistogram()
    for i in range(1, 1001):
        histogram.add(i / 1000)
    for share in (0.01, 0.5, 0.95, 1.0):
        assert histogram.percentile(share) == pytest.approx(share, rel=0.01)
    assert math.isnan(LogHistogram().percentile(0.5))


def test_a_warm_up_is_in_no_figure() -> None:
    plain = simulation(Fleet(1)).run([job(0)])
    run = simulation(Fleet(1))
    run.warm_up([job(i, n_prompt=50) for i in range(2)])
    tally = run.run([job(0)])
    assert (tally.n_finished, tally.n_tokens) == (1, 3)
    assert tally.first_s == [pytest.approx(plain.first_s[0])]
    assert tally.busy_s == pytest.approx(plain.busy_s)
    assert tally.figures()["tokens_per_s"] == pytest.approx(plain.figures()["tokens_per_s"])
