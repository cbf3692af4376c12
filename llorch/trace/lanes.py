"""Tracks of requests: each open request has a lane to itself, which another takes when it has ended.

A lane shows a request from its acceptance to its end and, within that, its wait for a place, the chunks of its prompt,
and its tokens. It shows the name of the generation and numbers, never its text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from llorch.trace.perfetto import Timeline, Track
from llorch.trace.records import ChunkRecord, FailedPass, Recording, RequestRecord, StepRecord

PROCESS = "requests"

Pass: TypeAlias = StepRecord | FailedPass
Computed: TypeAlias = list[tuple[Pass, ChunkRecord]]
"""What was computed of a generation, in order, and in which pass."""


@dataclass(frozen=True, slots=True)
class _Life:
    """A request, from its acceptance to its end, as far as it was watched.

    Attributes:
        job_id: its name.
        begun_ns, ended_ns: from when to when.
        queued_until_ns: end of its wait for a place; at `begun_ns` or before it if there was none.
        computed: its chunks.
        args: shown when it is clicked.
    """

    job_id: str
    begun_ns: int
    ended_ns: int
    queued_until_ns: int
    computed: Computed
    args: dict[str, object]


def add_lanes(timeline: Timeline, recording: Recording, requests: Sequence[RequestRecord] = ()) -> None:
    """Add a track for as many requests as were open at a time.

    Args:
        timeline: gets the tracks.
        recording: what was computed.
        requests: what the service knows of them; without it, they are told from their chunks alone.
    """
    free_from_ns: list[int] = []
    for life in sorted(_lives(recording, requests), key=lambda life: life.begun_ns):
        lane = next((i for i, ns in enumerate(free_from_ns) if ns <= life.begun_ns), len(free_from_ns))
        free_from_ns[lane : lane + 1] = [life.ended_ns]
        _draw(timeline, timeline.track(PROCESS, f"lane {lane + 1}", lane), life)


def _lives(recording: Recording, requests: Sequence[RequestRecord]) -> Iterator[_Life]:
    by_name = _computed_by_name(recording)
    for request in sorted(requests, key=lambda request: request.submitted_ns):
        same = by_name[request.job_id]  # a name may be used again when its generation has ended
        is_its = bool(same) and (request.ended_ns is None or same[0][0][1].submitted_ns <= request.ended_ns)
        yield _life_of_request(recording, request, same.pop(0) if is_its else [])
    for left in by_name.values():
        for computed in left:
            yield _life_of_chunks(recording, computed)


def _computed_by_name(recording: Recording) -> defaultdict[str, list[Computed]]:
    """The generations of each name, in the order of their begin."""
    by_turn: defaultdict[int, Computed] = defaultdict(list)
    passes: list[Pass] = [*recording.steps, *recording.failed]
    for done in sorted(passes, key=lambda done: done.begun_ns):
        for chunk in done.chunks:
            by_turn[chunk.turn].append((done, chunk))
    by_name: defaultdict[str, list[Computed]] = defaultdict(list)
    for computed in by_turn.values():
        by_name[computed[0][1].job_id].append(computed)
    return by_name


def _life_of_request(recording: Recording, request: RequestRecord, computed: Computed) -> _Life:
    """A request that the service knows; its end may lie outside the time that was watched."""
    is_open = request.ended_ns is None or request.ended_ns > recording.ended_ns
    ended_ns = recording.ended_ns if is_open or request.ended_ns is None else request.ended_ns
    ended_ns = max(ended_ns, computed[-1][0].ended_ns if computed else recording.begun_ns)
    begun_ns = min(max(request.submitted_ns, recording.begun_ns), ended_ns)
    args: dict[str, object] = {
        "prompt_tokens": request.n_prompt,
        "tokens": request.n_generated,
        "outcome": "open" if is_open else request.outcome,
    }
    if request.submitted_ns < recording.begun_ns:
        args["began_before_s"] = (recording.begun_ns - request.submitted_ns) / 1e9
    queued_until_ns = begun_ns if request.was_admitted else ended_ns
    if computed:
        queued_until_ns = min(computed[0][1].admitted_ns, computed[0][0].begun_ns)
        args["cached_tokens"] = computed[-1][1].n_cached
    return _Life(request.job_id, begun_ns, ended_ns, queued_until_ns, computed, args)


def _life_of_chunks(recording: Recording, computed: Computed) -> _Life:
    """A generation without a service: it ends with its last chunk."""
    first, last = computed[0][1], computed[-1][1]
    args: dict[str, object] = {
        "prompt_tokens": first.n_prompt,
        "tokens": last.n_before + last.n_chosen,
        "cached_tokens": last.n_cached,
    }
    begun_ns = min(max(first.submitted_ns, recording.begun_ns), computed[0][0].begun_ns)
    queued_until_ns = min(first.admitted_ns, computed[0][0].begun_ns)
    return _Life(first.job_id, begun_ns, computed[-1][0].ended_ns, queued_until_ns, computed, args)


def _draw(timeline: Timeline, track: Track, life: _Life) -> None:
    timeline.slice(
        track, life.job_id, life.begun_ns, life.ended_ns, "request", {"job_id": life.job_id, **life.args}
    )
    if life.queued_until_ns > life.begun_ns:
        timeline.slice(track, "queued", life.begun_ns, life.queued_until_ns, "request")
    before: Pass | None = None
    was_again, next_position = False, 0
    for done, chunk in life.computed:
        if before and chunk.is_again and (not was_again or chunk.first_position < next_position):
            timeline.slice(track, "gave way", before.ended_ns, done.begun_ns, "request")
        if isinstance(done, FailedPass):
            args = {"rows": chunk.n_tokens, "first_position": chunk.first_position}
            timeline.slice(track, "failed", done.begun_ns, done.ended_ns, "request", args)
        else:
            _draw_chunk(timeline, track, done, chunk)
            next_position = chunk.first_position + chunk.n_tokens - chunk.n_drafted
        before, was_again = done, chunk.is_again


def _draw_chunk(timeline: Timeline, track: Track, step: StepRecord, chunk: ChunkRecord) -> None:
    """The rows of a sequence in a step, and the tokens that were chosen from them."""
    n_rows = chunk.n_tokens - chunk.n_drafted
    args: dict[str, object] = {"rows": n_rows, "first_position": chunk.first_position}
    begun_ns = step.begun_ns
    if chunk.is_prompt or chunk.is_again or n_rows > 1:
        if chunk.is_again:
            args["again"] = True
        begun_ns = step.forward_ns[1] if chunk.n_chosen else step.ended_ns
        timeline.slice(track, f"prefill {n_rows}", step.begun_ns, begun_ns, "request", args)
        if not chunk.n_chosen:
            return
        args = {}
    if chunk.n_drafted:
        args |= {"drafted": chunk.n_drafted, "accepted": max(chunk.n_chosen - 1, 0)}
    timeline.slice(track, _name_of_tokens(chunk), begun_ns, step.ended_ns, "token", args)


def _name_of_tokens(chunk: ChunkRecord) -> str:
    """Numbers of the tokens that a step chose; the end of the text is no token of the answer."""
    first, last = chunk.n_before, chunk.n_before + chunk.n_chosen - 1
    if last < first:
        return "no token"
    return f"token {first}" if first == last else f"tokens {first}-{last}"
