"""The number of threads follows measured step times, and trials of the others stay cheap."""

from __future__ import annotations

from collections.abc import Callable

from llorch.model.thread_choice import LARGE_ROWS, TRIAL_COST, WEIGHTS_ROWS, ThreadChoice


def simulate(choice: ThreadChoice, n_rows: int, n_steps: int, cost: Callable[[int], float]) -> list[int]:
    """The choices of `n_steps` steps that take `cost(n_threads)` seconds each."""
    chosen = []
    for _ in range(n_steps):
        n_threads = choice.choose(n_rows)
        choice.record(cost(n_threads))
        chosen.append(n_threads)
    return chosen


def test_large_steps_get_all_threads_whatever_was_measured() -> None:
    choice = ThreadChoice(8)
    chosen = simulate(choice, LARGE_ROWS, 500, lambda n: float(n))
    assert set(chosen) == {8}


def test_one_thread_has_no_choice() -> None:
    assert set(simulate(ThreadChoice(1), 1, 100, lambda n: 1.0)) == {1}


def test_a_step_that_scales_keeps_all_threads_and_trials_cost_little() -> None:
    chosen = simulate(ThreadChoice(4), 1, 20_000, lambda n: 1e-3 / n)
    assert chosen.count(4) / len(chosen) > 0.98
    spent = sum(1e-3 / n for n in chosen)
    assert spent / (len(chosen) * 1e-3 / 4) < 1 + 2 * TRIAL_COST


def test_trials_of_fewer_threads_are_too_rare_to_be_the_p99_of_steps() -> None:
    chosen = simulate(ThreadChoice(2), 1, 20_000, lambda n: 1e-3 / n)
    assert 0 < chosen.count(1) < len(chosen) / 200


def test_a_step_that_is_faster_alone_soon_runs_alone() -> None:
    chosen = simulate(ThreadChoice(2), 1, 2_000, lambda n: n * 1e-4)
    assert chosen[:8] == [2] * 8
    assert chosen[100:].count(1) / len(chosen[100:]) > 0.9


def test_the_middle_is_found_among_many() -> None:
    def cost(n_threads: int) -> float:
        return 1e-3 / n_threads + 5e-5 * n_threads  # fastest with 4

    chosen = simulate(ThreadChoice(16), 1, 5_000, cost)
    assert chosen[2_000:].count(4) / 3_000 > 0.9


def test_threads_that_others_disturb_are_left_out_until_they_leave() -> None:
    choice = ThreadChoice(2)
    simulate(choice, 1, 1_000, lambda n: 1e-3 / n)

    def disturbed(n_threads: int) -> float:
        return 2e-3 if n_threads == 1 else 20e-3

    during = simulate(choice, 1, 2_000, disturbed)
    assert during[100:].count(1) / len(during[100:]) > 0.95
    afterwards = simulate(choice, 1, 10_000, lambda n: 1e-3 / n)
    assert afterwards[-1_000:].count(2) / 1_000 > 0.9


def test_one_slow_step_does_not_change_the_choice() -> None:
    choice = ThreadChoice(2)
    simulate(choice, 1, 300, lambda n: 1e-3 / n)
    assert choice.choose(1) == 2
    choice.record(5e-4 * 3)
    assert choice.choose(1) == 2


def test_steps_of_different_sizes_are_judged_apart() -> None:
    choice = ThreadChoice(2)
    for _ in range(500):
        for n_rows, prefers in ((1, 1), (32, 2)):
            n_threads = choice.choose(n_rows)
            choice.record(1e-3 if n_threads == prefers else 2e-3)
    small = simulate(choice, 1, 60, lambda n: n * 1e-3)
    large = simulate(choice, 32, 60, lambda n: 1e-3 / n)
    assert small.count(1) >= 55
    assert large.count(2) >= 55


def test_steps_that_are_cut_to_last_equally_long_are_compared_by_their_work() -> None:
    """With one thread they hold half as much. What they last says nothing, and one thread would never be left again."""
    choice = ThreadChoice(2)
    used, work = [], 20.0
    for i in range(2_000):
        n_threads = choice.choose(24, work)
        alone_s = 0.025 * (WEIGHTS_ROWS + work) / (WEIGHTS_ROWS + 20.0)
        if i < 50:  # another program has one of the two CPUs
            choice.record(alone_s if n_threads == 1 else 2.4 * alone_s)
        else:
            choice.record(alone_s / n_threads)
            work = (
                20.0 if n_threads == 1 else 2 * 20.0 + WEIGHTS_ROWS
            )  # the next lasts 0.025 s, if nothing changes
        used.append(n_threads)
    assert 1 in used[:50]
    assert used[300:].count(2) > 0.98 * 1_700


def test_steps_with_rows_of_prompts_are_no_measure_for_others() -> None:
    choice = ThreadChoice(2)
    for n_threads in simulate(choice, 10, 2_000, lambda n: n * 1e-4)[-10:]:
        assert n_threads == 1
    assert choice.choose(10, work=30.0) == 2
