"""Steps are cut so that nobody waits long: neither beside running answers nor without them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llorch.engine.pace import FEWEST, PROBE_EVERY, SMALLEST, SMOOTH_S, STRETCH, Pace
from llorch.model.row_cost import RowCost

Cost = Callable[[int, int], float]
"""Duration of a step of so many rows of answers and so many of prompts."""


def test_the_first_step_is_cautious() -> None:
    assert Pace(512).n_rows() == SMALLEST


def test_a_fast_model_gets_whole_batches() -> None:
    pace = Pace(512)
    pace.record(0, 64, 0.01)
    assert pace.n_rows() == 512


def test_a_slow_model_gets_steps_of_the_target_time() -> None:
    pace = Pace(512)
    pace.record(0, 64, 0.25)
    assert pace.n_rows() == 128


def test_a_very_slow_model_is_not_cut_below_the_smallest_step() -> None:
    pace = Pace(512)
    pace.record(0, 64, 60.0)
    assert pace.n_rows() == SMALLEST


def test_small_steps_teach_nothing() -> None:
    pace = Pace(512)
    pace.record(0, 1, 10.0)
    pace.record(0, SMALLEST - 1, 10.0)
    assert pace.n_rows() == SMALLEST
    pace.record(0, 64, 0.01)
    pace.record(0, 1, 10.0)
    assert pace.n_rows() == 512


def test_a_small_batch_is_the_limit_itself() -> None:
    pace = Pace(16)
    assert pace.n_rows() == 16
    pace.record(0, 16, 8.0)
    assert pace.n_rows() == 16
    pace.record(3, 0, 8.0)
    pace.record(3, 8, 8.0)
    assert pace.n_rows(3) == 16


def test_a_disturbed_step_is_forgotten_again() -> None:
    pace = Pace(512)
    for duration_s in (0.1, 3.0, 0.1, 0.1, 0.1, 0.1):
        pace.record(0, 256, duration_s)
    assert pace.n_rows() == 512


def simulate(pace: Pace, cost: Cost, n_steps: int, n_decoding: int) -> list[tuple[int, float]]:
    """Steps of a model of these costs while there is always a prompt to read: rows of prompts, and duration."""
    steps = []
    for _ in range(n_steps):
        n_prompt = pace.n_rows(n_decoding) - n_decoding
        duration_s = cost(n_decoding, n_prompt)
        pace.record(n_decoding, n_prompt, duration_s)
        steps.append((n_prompt, duration_s))
    return steps


def linear(base_s: float, decode_s: float, prompt_s: float) -> Cost:
    return lambda n_decoding, n_prompt: base_s + decode_s * n_decoding + prompt_s * n_prompt


def tiled(n_decoding: int, n_prompt: int) -> float:
    """Rows are computed four at a time."""
    return 0.02 + -(-(n_decoding + n_prompt) // 4) * 0.004


COSTS = [linear(0.05, 0.001, 0.003), linear(0.004, 0.0005, 0.0006), linear(0.3, 0.0, 0.0001), tiled]


@pytest.mark.parametrize("n_decoding", [1, 4, 16])
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("rows_per_s", [None, 50.0, 5000.0])
def test_answers_come_at_most_half_as_fast_while_prompts_are_read(
    cost: Cost, n_decoding: int, rows_per_s: float | None
) -> None:
    """Or a step takes so little that nobody sees it, whatever is known of reading prompts from before.

    The very first tries may be wrong, 1 % of the steps at most.
    """
    pace = Pace(512)
    if rows_per_s:
        pace.record(0, 512, 512 / rows_per_s)
    steps = simulate(pace, cost, 400, n_decoding)
    most_s = max(2 * cost(n_decoding, 0), 1.2 * SMOOTH_S)
    assert sum(duration_s > most_s for _, duration_s in steps) <= 4
    n_best = max(n for n in range(1, 500) if cost(n_decoding, n) <= most_s or n <= FEWEST)
    assert sum(n_prompt for n_prompt, _ in steps) > 0.4 * len(steps) * n_best


def test_the_first_step_beside_answers_shows_what_they_take_alone() -> None:
    pace = Pace(512)
    assert pace.n_rows(3) == 3
    pace.record(3, 0, 0.1)
    assert pace.n_rows(3) == 3 + FEWEST


def test_what_other_numbers_of_answers_take_will_do() -> None:
    pace = Pace(512)
    pace.record(2, 0, 0.1)
    pace.record(2, 10, 0.2)
    assert pace.n_rows(5) == pace.n_rows(2) + 3 > 5 + FEWEST
    assert pace.n_rows(1) > 1 + FEWEST  # of more, where no fewer are known


def test_short_prompts_that_came_with_the_answers_are_read_in_steps_of_the_full_length() -> None:
    pace = Pace(512)
    pace.record(0, 200, 1.0)
    pace.record(2, 0, 0.1)
    beside = pace.n_rows(2)
    assert beside - 2 < SMALLEST
    assert pace.n_rows(2, n_burst=1) - 2 == pace.n_rows(2, n_burst=400) - 2 == pace.n_rows() == 100
    assert pace.n_rows(2, n_burst=401) == beside


def test_a_pause_of_the_machine_changes_the_next_steps_little() -> None:
    cost = linear(0.04, 0.005, 0.006)
    alone_s = cost(4, 0)
    pace = Pace(512)
    simulate(pace, cost, 2 * PROBE_EVERY, 4)
    usual = pace.n_rows(4) - 4
    pace.record(4, usual, 2.0)
    assert pace.n_rows(4) - 4 >= usual // 3
    recovered = simulate(pace, cost, 10, 4)[-1][0]
    assert recovered >= 0.8 * usual
    pace.record(4, 0, 2.0)
    assert cost(4, pace.n_rows(4) - 4) <= 2.1 * alone_s


def test_prompts_are_read_however_dear_a_row_is() -> None:
    pace = Pace(512)
    steps = simulate(pace, linear(0.01, 0.001, 1.0), 100, 2)
    assert sorted({n_prompt for n_prompt, _ in steps}) == [0, FEWEST]
    assert sum(n_prompt == 0 for n_prompt, _ in steps) <= 2 + 100 // PROBE_EVERY


def test_answers_that_have_become_dearer_are_noticed_while_prompts_come_without_end() -> None:
    pace = Pace(512)
    simulate(pace, linear(0.01, 0.0, 0.001), 50, 2)
    assert pace.n_rows(2) - 2 <= 7
    simulate(pace, linear(0.04, 0.0, 0.001), 5 * PROBE_EVERY, 2)
    assert pace.n_rows(2) - 2 >= 20


def test_steps_that_always_hold_drafts_show_what_answers_take_too() -> None:
    pace = Pace(512)
    assert pace.n_rows(1) == 1
    pace.record(1 + 5, 0, 0.1)
    assert pace.n_rows(1) > 1


def test_a_small_model_reads_as_much_beside_answers_as_nobody_sees() -> None:
    """At 1.7 times a step of 2 ms, a prompt would take three times as long as alone."""
    cost = linear(0.002, 0.0, 0.0002)
    steps = simulate(Pace(512), cost, 10 * PROBE_EVERY, 4)
    read = [duration_s for n_prompt, duration_s in steps[PROBE_EVERY:] if n_prompt]
    assert 0.8 * SMOOTH_S < min(read) <= max(read) <= 1.05 * SMOOTH_S


def test_a_first_step_that_seems_to_cost_nothing_does_not_lead_to_a_huge_one() -> None:
    """Four rows fit beside those of the answers; they say nothing about 500."""
    pace = Pace(512)
    pace.record(1, 0, 0.005)
    assert pace.n_rows(1) == 1 + FEWEST
    pace.record(1, FEWEST, 0.0049)
    assert pace.n_rows(1) == 1 + 2 * FEWEST
    steps = simulate(pace, linear(0.005, 0.0, 0.0005), PROBE_EVERY, 1)
    assert max(duration_s for _, duration_s in steps) <= 1.1 * SMOOTH_S


def test_rows_far_behind_in_a_prompt_are_known_to_cost_more() -> None:
    """Attention makes them four times as dear here: the next step is cut for it, not the one after it is late."""
    equal, alone_s, row_s = 500.0, 0.02, 0.0003

    def price(n_before: int, n_rows: int) -> float:
        return n_rows + sum(range(n_before, n_before + n_rows)) / equal

    pace = Pace(512, cost=RowCost(equal))
    pace.record(2, 0, alone_s)
    steps = []
    for n_before in [*range(0, 200, 20), *range(1500, 1600, 20)]:
        n_rows = pace.n_rows(2, n_before=n_before) - 2
        steps.append(alone_s + row_s * price(n_before, n_rows))
        pace.record(2, n_rows, steps[-1], n_looks=sum(range(n_before, n_before + n_rows)))
    assert max(steps) <= 1.1 * STRETCH * alone_s
    assert min(steps[5:]) >= 0.9 * STRETCH * alone_s
    assert pace.n_rows(2, n_before=1600) < pace.n_rows(2) / 3
