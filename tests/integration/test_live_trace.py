"""A timeline of a running server: what `POST /trace/start` and `/trace/stop` give to whoever runs it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.live_server import WAIT_S, LiveServer, events, wait_until
from tests.support.perfetto.trace_file import TraceFile, overlaps, read_trace
from tests.support.perfetto.trace_processor import loaded_trace

ADMIN = {"Authorization": "Bearer tahini"}
USER = {"Authorization": "Bearer sesame"}
SECRET = "the duck wore a hat"
N_TOKENS = 12
HOLDERS = ("held0", "held1")
"""Requests that keep others waiting until they are cancelled."""


@pytest.fixture(scope="module")
def live(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with a key of a user and one of an admin; prompts are read 16 tokens at a step."""
    folder = tmp_path_factory.mktemp("traced")
    (folder / "admins").write_text("# who runs it\nroot: tahini\n")
    flags = ("-np", "2", "-b", "16", "-t", "2", "-a", "shown", "--admin-key-file", str(folder / "admins"))
    server = LiveServer(long_model, folder / "log", *flags, LLORCH_API_KEY="alice: sesame")
    yield server.wait_until_ready()
    assert server.stop() == 0


def generate(live: LiveServer, job_id: str, **more: Any) -> dict[str, Any]:
    body = {"prompt": SECRET, "max_tokens": N_TOKENS, "ignore_eos": True, "job_id": job_id, **more}
    answer = live.post("/generate", json={**body, "stream": False}, headers=USER)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def start(live: LiveServer, **limits: Any) -> str:
    answer = live.post("/trace/start", json=limits, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["trace_id"])


def stop(live: LiveServer, path: Path) -> TraceFile:
    answer = live.post("/trace/stop", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    path.write_bytes(answer.content)
    trace = read_trace(path)
    assert not any(overlaps(slices) for slices in trace.slices.values())
    return trace


@pytest.fixture(scope="module")
def busy(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of five requests that waited while two others were computed, and then were, two at a time."""
    path = tmp_path_factory.mktemp("busy") / "trace.json"
    start(live, max_seconds=600, max_steps=100_000)
    with ThreadPoolExecutor(7) as pool:
        held = [pool.submit(generate, live, name, max_tokens=60_000) for name in HOLDERS]
        until_there_are(live, "running", 2)
        jobs = [pool.submit(generate, live, f"job{i}") for i in range(5)]
        until_there_are(live, "waiting", 5)
        for name in HOLDERS:
            live.post("/cancel", json={"job_id": name}, headers=USER)
        for one in (*held, *jobs):
            one.result()
    stop(live, path)
    return path


def until_there_are(live: LiveServer, state: str, n: int) -> None:
    """Wait until so many requests are ``"running"`` or ``"waiting"``."""
    for _ in wait_until(WAIT_S):
        if f"\nllorch_requests_{state} {n}.0\n" in live.get("/metrics", headers=USER).text:
            return
    raise TimeoutError(f"{n} requests {state} did not come")


def test_each_request_has_a_lane_with_its_wait_its_prompt_and_every_token(busy: Path) -> None:
    trace = read_trace(busy)
    lanes = {name: slices for name, slices in trace.slices.items() if name.startswith("lane")}
    assert set(lanes) <= {f"lane {i}" for i in range(1, 8)}
    all_of_them = [s for slices in lanes.values() for s in slices if "job_id" in s.args]
    requests = [s for s in all_of_them if s.name not in HOLDERS]
    assert {s.args["outcome"] for s in all_of_them if s not in requests} == {"abort"}
    assert {s.name for s in requests} == {f"job{i}" for i in range(5)}
    n_waited = 0
    for request in requests:
        inside = [
            s
            for s in lanes[request.track]
            if request.begin_ns <= s.begin_ns and s.end_ns <= request.end_ns and s is not request
        ]
        assert [s.name for s in inside if s.category == "token"] == [f"token {i}" for i in range(N_TOKENS)]
        rows = [s.args["rows"] for s in inside if s.name.startswith("prefill")]
        assert sum(rows) == request.args["prompt_tokens"]
        assert max(rows) <= 16
        assert (request.args["outcome"], request.args["tokens"]) == ("length", N_TOKENS)
        n_waited += any(s.name == "queued" for s in inside)
    assert n_waited == 5


def test_operations_lie_in_the_steps_that_computed_the_tokens(busy: Path) -> None:
    trace = read_trace(busy)
    steps = {s.args["step"]: s for s in trace.of("step")}
    assert len(steps) == len(trace.about["steps"])
    for operation in trace.of("operation"):
        step = steps[operation.args["step"]]
        assert step.begin_ns <= operation.begin_ns <= operation.end_ns <= step.end_ns
        assert operation.args["rows"] == step.args["rows"]
        assert operation.args["bytes"] > 0
    ends = {s.end_ns for s in steps.values()}
    assert {s.end_ns for s in trace.of("token")} <= ends
    assert set(trace.slices) >= {"thread 0", "thread 1"}
    assert trace.about["model"] == {"name": "shown"}
    assert trace.about["operations"]["attn_q"]["0"]["n"] == len(steps)


def test_counters_are_plausible(busy: Path) -> None:
    trace = read_trace(busy)
    counters = trace.counters
    values = {name: [value for _, value in series] for name, series in counters.items()}
    assert all(times == sorted(times) for times in ([at for at, _ in s] for s in counters.values()))
    assert max(values["batch: running"]) == 2
    assert values["batch: running"][-1] == values["batch: waiting"][-1] == 0
    assert max(values["batch: waiting"]) >= 1
    assert max(values["batch: rows"]) <= 16
    blocks = zip(*(values[f"KV blocks: {kind}"] for kind in ("used", "kept", "free")), strict=True)
    assert len({sum(three) for three in blocks}) == 1
    assert max(values["tokens/s"]) > 0
    assert max(values["prompt tokens/s"]) > 0


def test_nothing_of_the_texts_is_in_the_file(busy: Path) -> None:
    content = busy.read_text()
    assert not any(word in content for word in (SECRET, "duck", "sesame", "tahini"))


@pytest.mark.trace_processor
def test_perfetto_reads_it(busy: Path) -> None:
    with loaded_trace(busy) as trace:
        inside = "slice join slice as request on slice.parent_id = request.id"
        tokens = f"select count(*) from {inside} where slice.category = 'token' and request.name like 'job%'"
        [(n,)] = trace.rows(tokens)
        assert n == 5 * N_TOKENS
        depths = trace.rows("select distinct depth from slice where category = 'token'")
        assert depths == [(1,)], "each lies in its request"
        assert trace.rows("select name, value from stats where severity = 'error' and value > 0") == []


def test_an_idle_server_begins_and_ends_at_once_and_the_file_is_whole(
    live: LiveServer, tmp_path: Path
) -> None:
    start(live)
    trace = stop(live, tmp_path / "t.json")
    assert trace.about["steps"] == []
    assert trace.of("request", "operation") == []


def test_an_answer_is_compressed_only_if_the_client_takes_that(live: LiveServer) -> None:
    documents = []
    for accepted in ("gzip, deflate", "identity", "gzip;q=0"):
        start(live)
        with live.stream("/trace/stop", headers={**ADMIN, "Accept-Encoding": accepted}) as answer:
            raw = b"".join(answer.iter_raw())
            is_gzip = answer.headers.get("content-encoding") == "gzip"
            assert is_gzip == (accepted == "gzip, deflate")
            assert answer.headers["content-disposition"].startswith('attachment; filename="llorch-trace-')
        documents.append(json.loads(gzip.decompress(raw) if is_gzip else raw))
    assert all(document["llorch"]["version"] for document in documents)


def test_a_trace_ends_by_itself_after_so_many_steps_and_is_kept(live: LiveServer, tmp_path: Path) -> None:
    start(live, max_steps=7, operations=False)
    generate(live, "long", max_tokens=30)
    trace = stop(live, tmp_path / "t.json")
    assert len(trace.about["steps"]) == 7
    (request,) = [s for s in trace.of("request") if s.name == "long"]
    assert request.args["outcome"] == "open", "it went on when the trace had ended"
    assert set(trace.slices) == {"lane 1"}, "operations were not wanted"
    assert "tokens/s" in trace.counters


def test_a_trace_ends_by_itself_after_so_long_though_nobody_asks_for_it(live: LiveServer) -> None:
    first = start(live, max_seconds=0.2)
    for _ in wait_until(WAIT_S):
        answer = live.post("/trace/start", json={"max_seconds": 60}, headers=ADMIN)
        if answer.status_code == 200:
            break
        assert answer.status_code == 409
    stale = live.post("/trace/stop", json={"trace_id": first}, headers=ADMIN)
    assert (stale.status_code, stale.json()["errors"][0]["field"]) == (409, "trace_id")
    current = answer.json()["trace_id"]
    assert live.post("/trace/stop", json={"trace_id": current}, headers=ADMIN).status_code == 200


def test_one_trace_at_a_time_and_each_is_answered_once(live: LiveServer) -> None:
    assert "no trace" in live.post("/trace/stop", headers=ADMIN).json()["errors"][0]["message"]
    start(live)
    again = live.post("/trace/start", headers=ADMIN)
    assert again.status_code == 409
    assert again.json()["errors"][0]["message"] == "a trace is being taken; POST /trace/stop ends it"
    assert live.post("/trace/stop", headers=ADMIN).status_code == 200
    assert live.post("/trace/stop", headers=ADMIN).status_code == 409


def test_a_request_that_began_before_and_one_that_is_aborted_are_there(
    live: LiveServer, tmp_path: Path
) -> None:
    body = {"prompt": SECRET, "max_tokens": 60_000, "ignore_eos": True, "job_id": "endless"}
    with live.stream("/generate", json=body, headers=USER) as answer:
        stream = events(answer.iter_lines())
        while next(stream)[0] != "token":
            pass
        start(live, operations=False)
        generate(live, "other")
        live.post("/cancel", json={"job_id": "endless"}, headers=USER)
        end = list(stream)[-1][1]
    trace = stop(live, tmp_path / "t.json")
    (request,) = [s for s in trace.of("request") if s.name == "endless"]
    assert (request.begin_ns, request.args["outcome"]) == (0, "abort")
    assert request.args["began_before_s"] > 0
    assert request.args["tokens"] == end["usage"]["completion_tokens"]
    tokens = [s for s in trace.slices[request.track] if s.category == "token"]
    assert tokens[0].name != "token 0"
    assert tokens[-1].name == f"token {end['usage']['completion_tokens'] - 1}"


@pytest.mark.parametrize("path", ["/trace/start", "/trace/stop"])
def test_only_an_admin_key_lets_in(live: LiveServer, server: LiveServer, path: str) -> None:
    def refusal(of: LiveServer, headers: dict[str, str]) -> tuple[int, str]:
        answer: httpx.Response = of.post(path, json={}, headers=headers)
        return answer.status_code, answer.json()["errors"][0]["message"]

    assert refusal(live, {})[0] == 401
    assert refusal(live, {"X-Api-Key": "wrong"}) == (
        401,
        "the admin key is missing or wrong (also taken: X-Api-Key)",
    )
    assert refusal(live, USER) == (403, "this path needs the admin key; an API key does not suffice")
    status, message = refusal(server, ADMIN)
    assert status == 403, "there is none, though only this machine reaches the server"
    assert "set admin_key_file or LLORCH_ADMIN_KEY" in message
    assert live.post("/generate", json={"prompt": "a"}, headers=ADMIN).status_code == 401, "it is no API key"
