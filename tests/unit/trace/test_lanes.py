"""What the lanes of requests show, from recordings that are made up."""

from __future__ import annotations

from pathlib import Path

from llorch.trace.records import FailedPass
from tests.support.recordings import BEGUN_NS, chunk, lanes, recording, request, spans, step


def test_a_request_is_its_wait_its_prompt_and_its_tokens(tmp_path: Path) -> None:
    steps = (
        step(20, chunk("j1", 0, 3, admitted_ns=BEGUN_NS + 22)),
        step(30, chunk("j1", 3, 1)),
        step(40, chunk("j1", 4)),
    )
    trace = lanes(tmp_path, recording(*steps), request("j1", 5, 55, "length", n_generated=2, was_admitted=1))
    (lane,) = trace.slices.values()
    assert spans(lane) == [
        ("j1", 5, 55),
        ("queued", 5, 20),
        ("prefill 3", 20, 30),
        ("prefill 1", 30, 39),
        ("token 0", 39, 40),
        ("token 1", 40, 50),
    ]
    assert [s.category for s in lane] == ["request"] * 4 + ["token"] * 2
    assert lane[0].args == {
        "job_id": "j1",
        "prompt_tokens": 4,
        "tokens": 2,
        "outcome": "length",
        "cached_tokens": 0,
    }


def test_a_lane_is_taken_again_when_its_request_has_ended(tmp_path: Path) -> None:
    requests = [request(f"j{i}", 10 * (i // 3), 10 * (i // 3) + 10) for i in range(999)]
    trace = lanes(tmp_path, recording(n_ns=4000), *requests)
    assert {name: len(slices) for name, slices in trace.slices.items()} == {
        f"lane {i}": 2 * 333 for i in (1, 2, 3)
    }


def test_without_a_service_requests_are_told_from_their_chunks(tmp_path: Path) -> None:
    first = chunk("j1", 0, 4, submitted_ns=BEGUN_NS + 2, admitted_ns=BEGUN_NS + 4)
    trace = lanes(tmp_path, recording(step(5, first), step(15, chunk("j1", 4))))
    assert spans(trace.slices["lane 1"]) == [
        ("j1", 2, 25),
        ("queued", 2, 4),
        ("prefill 4", 5, 14),
        ("token 0", 14, 15),
        ("token 1", 15, 25),
    ]
    assert trace.slices["lane 1"][0].args["tokens"] == 2


def test_requests_that_began_before_or_end_later_reach_to_the_edge_and_say_so(tmp_path: Path) -> None:
    known = request("j1", -2_000_000_000, None, "open", was_admitted=1)
    trace = lanes(tmp_path, recording(step(0, chunk("j1", 9)), n_ns=50), known)
    lane = trace.slices["lane 1"]
    assert spans(lane) == [("j1", 0, 50), ("token 6", 0, 10)]
    assert lane[0].args["outcome"] == "open"
    assert lane[0].args["began_before_s"] == 2.0


def test_what_never_got_a_place_is_queued_all_the_time(tmp_path: Path) -> None:
    waiting = (request("j1", 10, 30, "abort"), request("j2", 20, None, "open"))
    trace = lanes(tmp_path, recording(n_ns=60), *waiting)
    assert spans(trace.slices["lane 1"]) == [("j1", 10, 30), ("queued", 10, 30)]
    assert spans(trace.slices["lane 2"]) == [("j2", 20, 60), ("queued", 20, 60)]
    assert trace.slices["lane 1"][0].args["outcome"] == "abort"


def test_a_name_that_is_used_again_is_another_request(tmp_path: Path) -> None:
    one = chunk("j1", 0, 4, submitted_ns=BEGUN_NS + 1)
    other = chunk("j1", 0, 4, turn=2, submitted_ns=BEGUN_NS + 31)
    both = (request("j1", 1, 25, was_admitted=1), request("j1", 30, 45, was_admitted=1))
    trace = lanes(tmp_path, recording(step(10, one), step(32, other)), *both)
    tokens = [s for s in trace.slices["lane 1"] if s.category == "token"]
    assert spans(tokens) == [("token 0", 19, 20), ("token 0", 41, 42)]


def test_several_tokens_of_a_step_are_one_slice_that_counts_them(tmp_path: Path) -> None:
    drafted = chunk("j1", 4, 4, n_drafted=3, n_chosen=3)
    trace = lanes(tmp_path, recording(step(0, drafted), step(10, chunk("j1", 7, n_before=4))))
    tokens = [s for s in trace.slices["lane 1"] if s.category == "token"]
    assert [s.name for s in tokens] == ["tokens 1-3", "token 4"]
    assert tokens[0].args == {"rows": 1, "first_position": 4, "drafted": 3, "accepted": 2}


def test_a_step_that_chose_no_token_says_so(tmp_path: Path) -> None:
    trace = lanes(tmp_path, recording(step(0, chunk("j1", 4, n_chosen=0))))
    assert spans(trace.slices["lane 1"]) == [("j1", 0, 10), ("no token", 0, 10)]


def test_a_request_that_gave_way_shows_the_gap_and_what_is_computed_again(tmp_path: Path) -> None:
    steps = (
        step(0, chunk("j1", 5)),
        step(40, chunk("j1", 0, 4, n_chosen=0, is_again=1)),
        step(50, chunk("j1", 4, 3, n_before=3, is_again=1)),
        step(60, chunk("j1", 7)),
    )
    trace = lanes(tmp_path, recording(*steps))
    assert spans(trace.slices["lane 1"])[1:] == [
        ("token 2", 0, 10),
        ("gave way", 10, 40),
        ("prefill 4", 40, 50),
        ("prefill 3", 50, 59),
        ("token 3", 59, 60),
        ("token 4", 60, 70),
    ]
    assert trace.slices["lane 1"][3].args["again"]


def test_a_failed_pass_is_shown_before_what_was_computed_alone(tmp_path: Path) -> None:
    failed = FailedPass(BEGUN_NS, BEGUN_NS + 5, (chunk("j1", 4), chunk("j2", 4)))
    steps = (step(5, chunk("j1", 4)), step(15, chunk("j1", 5)))
    trace = lanes(tmp_path, recording(*steps, failed=(failed,)))
    assert spans(trace.slices["lane 1"])[1:] == [
        ("failed", 0, 5),
        ("token 1", 5, 15),
        ("token 2", 15, 25),
    ]
    assert spans(trace.slices["lane 2"]) == [("j2", 0, 5), ("failed", 0, 5)]
