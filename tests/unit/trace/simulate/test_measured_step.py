"""What a recording's steps come to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llorch.bench.work import Work
from llorch.model.config import ModelConfig
from llorch.trace.records import ChunkRecord, EngineState, Recording, StepRecord
from llorch.trace.simulate.check import checks
from llorch.trace.simulate.handover import Handover, measure_handover
from llorch.trace.simulate.measured_step import measured_steps
from llorch.trace.simulate.simulation import Costs

CONFIG = ModelConfig(
    n_vocab=320, n_embd=128, n_layer=1, n_head=4, n_head_kv=2, head_dim=32, n_ff=1100, n_ctx_train=64, n_rot=32,
    rope_freq_base=1e4, rope_freq_scale=1.0, norm_eps=1e-5,
)  # fmt: skip
LABELS = [
    ("embed", -1), ("norm", 0), ("attn_q", 0), ("attend", 0), ("prepare", 0), ("ffn_up", 0), ("swiglu", 0),
    ("output", -1),
]  # fmt: skip
WORKS = [Work("", 100, 100, "float", n_streamed=i) for i in range(len(LABELS))]


def record(*times: tuple[tuple[int, int], ...], n_rows: int = 1) -> StepRecord:
    """A step with the begin and end of each of `LABELS` on each thread; microseconds."""
    stamps = np.array(times, np.int64) * 1000
    chunk = ChunkRecord("a", 0, n_rows, 5, False, 1)
    state = EngineState(1, 0, 1, 0, 0, 0)
    return StepRecord(0, (0, 10**9), 10**9, (chunk,), 1, stamps, state)


def even(work: int, gap: int = 1, n_threads: int = 2, n_rows: int = 1) -> StepRecord:
    """All operations take `work` microseconds on every thread, with gaps between them."""
    begins = [i * (work + gap) for i in range(len(LABELS))]
    return record(*(((b, b + work),) * n_threads for b in begins), n_rows=n_rows)


def recording(*steps: StepRecord) -> Recording:
    return Recording(0, 10**9, steps, 0)


def off_core(step: StepRecord, *off_ns: int) -> StepRecord:
    """A step of a millisecond whose threads were without a core for so long."""
    return replace(step, forward_ns=(0, 10**6), off_core_ns=off_ns)


def test_an_operation_takes_the_mean_of_what_all_threads_computed_in_the_middle_half_of_the_steps() -> None:
    steps = (even(2), even(10), even(11), even(12), even(13), even(90))
    (found,) = measured_steps(recording(*steps), LABELS, [WORKS] * 6, CONFIG)
    assert [o.work_s for o in found.operations] == pytest.approx([23e-6] * len(LABELS))
    assert [o.n_bytes for o in found.operations] == list(range(len(LABELS)))
    assert found.seconds == pytest.approx((8 * 11.5 + 7) * 1e-6)
    assert found.shown in steps[2:4]
    assert (found.n_threads, found.n_steps, found.n_undisturbed, found.n_rows) == (2, 6, 6, 1)


def test_operations_add_up_to_the_step_where_each_step_loses_time_in_another_one() -> None:
    steps = []
    for late in range(8):
        ends = [i * 11 + 10 + (500 if i >= late else 0) for i in range(len(LABELS))]
        begins = [i * 11 + (500 if i > late else 0) for i in range(len(LABELS))]
        steps.append(record(*(((b, e),) for b, e in zip(begins, ends, strict=True))))
    (found,) = measured_steps(recording(*steps), LABELS, [WORKS] * 8, CONFIG)
    assert found.work_s + 7e-6 == pytest.approx(found.seconds)


def test_steps_whose_threads_lost_their_cores_do_not_count_where_others_did_not() -> None:
    steps = [off_core(even(50), 30_000, 0), off_core(even(10), 0, 20_000), off_core(even(90), 0, 900_000)]
    (found,) = measured_steps(recording(*steps), LABELS, [WORKS] * 3, CONFIG)
    assert (found.n_steps, found.n_undisturbed) == (3, 1)
    assert found.off_core == pytest.approx(0.03)
    assert found.seconds == pytest.approx((8 * 10 + 7) * 1e-6)
    (disturbed,) = measured_steps(recording(steps[0], steps[2]), LABELS, [WORKS] * 2, CONFIG)
    assert (disturbed.n_steps, disturbed.n_undisturbed) == (2, 0)
    assert disturbed.seconds == pytest.approx((8 * 70 + 7) * 1e-6)


def test_memory_is_as_fast_as_the_operation_that_reads_fastest() -> None:
    works = [Work("", 100, 100, "float", n_streamed=n) for n in (0, 0, 4000, 10, 0, 6000, 0, 0)]
    times = [((i * 10, i * 10 + 8), (i * 10, i * 10 + 4)) for i in range(len(LABELS))]
    times[3] = ((30, 30), (30, 31))  # few bytes say nothing
    (found,) = measured_steps(recording(record(*times)), LABELS, [works], CONFIG)
    assert found.streamed_per_s == pytest.approx(6000 / 8e-6)
    (nothing,) = measured_steps(recording(even(10)), LABELS, [[WORKS[0]] * len(LABELS)], CONFIG)
    assert nothing.streamed_per_s == 0


def test_operations_fall_into_as_many_pieces_as_threads_can_claim() -> None:
    (found,) = measured_steps(recording(even(10)), LABELS, [WORKS], CONFIG)
    assert {o.label: o.n_pieces for o in found.operations} == {
        "embed": 1, "norm": 1, "attn_q": 2, "attend": 2, "prepare": 1, "ffn_up": 18, "swiglu": 5, "output": 5,
    }  # fmt: skip
    (found,) = measured_steps(recording(even(10, n_rows=40)), LABELS, [WORKS], CONFIG)
    assert {o.label: o.n_pieces for o in found.operations} == {
        "embed": 40, "norm": 40, "attn_q": 4, "attend": 6, "prepare": 40, "ffn_up": 35, "swiglu": 200, "output": 5,
    }  # fmt: skip


def test_steps_of_one_token_are_simulated_where_there_are_any_once_for_each_number_of_threads() -> None:
    steps = (even(9, n_rows=7), even(9, n_rows=7), even(10), even(11, n_threads=1), even(12))
    found = measured_steps(recording(*steps), LABELS, [WORKS] * 5, CONFIG)
    assert [(step.n_rows, step.n_threads, step.n_steps) for step in found] == [(1, 2, 2), (1, 1, 1)]
    (found_prompt,) = measured_steps(recording(*steps[:2]), LABELS, [WORKS] * 2, CONFIG)
    assert found_prompt.n_rows == 7


def test_predictions_stand_beside_what_was_measured_and_come_from_other_threads_too() -> None:
    steps = [*(even(10, n_threads=1),) * 9, *(even(5),) * 8, even(2, n_threads=4)]
    measured = measured_steps(recording(*steps), LABELS, [WORKS] * 18, CONFIG)
    costs = Costs(1e30, {1: Handover(1e-6, 0), 2: Handover(1e-6, 0)})
    found = checks(measured, costs)
    assert [(c.n_threads, c.from_threads) for c in found] == [(1, 1), (1, 2), (2, 2), (2, 1)], (
        "one step is too few"
    )
    assert found[0].predicted_s == pytest.approx((8 * 10 + 7) * 1e-6)
    assert found[0].difference == pytest.approx(0)
    two = found[2]
    one_piece, fifths = 10 * 3, 10 * 3 / 5  # of embed, norm and prepare; of swiglu and output
    assert two.predicted_s == pytest.approx((one_piece + 2 * fifths + 5 * 3 + 7) * 1e-6)
    assert two.difference == pytest.approx(two.predicted_s / two.measured_s - 1)
    assert (two.to_json()["steps"], two.to_json()["undisturbed_steps"]) == (8, 8)


def test_meeting_costs_time_on_two_threads() -> None:
    alone, two = measure_handover(1), measure_handover(2)
    assert 0 <= alone.barrier_s < two.barrier_s < 1e-2
    assert alone.start_s == 0


def test_costs_beyond_the_measured_threads_are_those_of_the_most() -> None:
    costs = Costs(1.0, {1: Handover(1, 0), 2: Handover(2, 0), 8: Handover(8, 0)})
    assert [costs.handover(n).barrier_s for n in (1, 2, 4, 8, 64)] == [1, 2, 2, 8, 8]
