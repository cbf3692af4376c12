"""Starting, keeping alive, guarding and stopping a real server."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.commands import llorch
from tests.support.live_server import READY_S, WAIT_S, LiveServer, events, generate_events, wait_until
from tests.support.tiny_models import write_tiny_llama

ENDLESS = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}


def test_health_and_ready(server: LiveServer) -> None:
    assert server.get("/health").json() == {"status": "ok"}
    assert server.get("/ready").json() == {"stage": "ready"}


def test_a_server_that_is_still_compiling_answers_and_can_be_stopped(
    long_model: Path, tmp_path: Path
) -> None:
    # An empty cache: the kernels are compiled first.
    server = LiveServer(long_model, tmp_path / "log", LLORCH_CACHE_DIR=str(tmp_path / "cache"))
    try:
        server.assert_alive()
        bad = server.post("/generate", json={"prompt": "a", "top_k": -1})
        assert bad.status_code == 400
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(READY_S) in (0, -signal.SIGTERM)
    finally:
        server.process.kill()


def test_silent_stream_gets_comments_from_admission_on(long_model: Path, tmp_path: Path) -> None:
    server = LiveServer(
        long_model, tmp_path / "log", "-np", "1", LLORCH_KEEP_ALIVE_S="0.1"
    ).wait_until_ready()
    try:
        with (
            server.stream("/generate", json={**ENDLESS, "job_id": "long"}),
            server.stream("/generate", json=ENDLESS) as queued,
        ):
            lines = queued.iter_lines()
            assert next(line for line in lines if line.startswith("event")) == "event: started"
            for _ in range(2):
                assert next(line for line in lines if line.startswith(("event", ":"))) == ": keep-alive"
    finally:
        assert server.stop() == 0


def test_api_key_guards_everything_but_probes(long_model: Path, tmp_path: Path) -> None:
    server = LiveServer(long_model, tmp_path / "log", LLORCH_API_KEY="sesame öffne")
    try:
        key = "sesame öffne".encode()
        for _ in wait_until(WAIT_S):
            if server.get("/ready", headers={b"x-api-key": key}).status_code == 200:
                break
        body = {"prompt": "a", "max_tokens": 1, "stream": False}
        assert server.get("/health").status_code == server.get("/ready").status_code == 200
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic x"},
            {"x-api-key": ""},
        ):
            for path in ("/docs", "/openapi.json", "/nothing"):
                answer = server.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.json()["errors"][0]["field"] == "Authorization"
            assert server.post("/generate", json=body, headers=headers).status_code == 401
        answer = server.post("/generate", json=body, headers={b"authorization": b"Bearer " + key})
        assert answer.status_code == 200
        assert "sesame" not in server.log
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:8080", "LOCALHOST:1"])
def test_loopback_hosts_are_served(server: LiveServer, host: str) -> None:
    assert server.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""])
def test_other_hosts_are_refused_on_a_loopback_bind(server: LiveServer, host: str) -> None:
    answer = server.get("/health", headers={"host": host})
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["field"] == "Host"


def test_huge_headers_are_refused(server: LiveServer) -> None:
    begin = len(server.log)
    try:
        answer = server.get("/health", headers={"x": "a" * 10_000_000})
    except httpx.HTTPError:  # closed while the rest was still being sent
        pass
    else:
        assert answer.status_code in (400, 431)
    server.wait_for_log("Invalid HTTP request received", after=begin)
    server.assert_alive()


def test_sigterm_lets_a_stream_finish(long_model: Path, tmp_path: Path) -> None:
    server = LiveServer(long_model, tmp_path / "log", LLORCH_SHUTDOWN_GRACE_S="300").wait_until_ready()
    body = {"prompt": "Hello", "max_tokens": 1500, "ignore_eos": True}
    with server.stream("/generate", json=body) as response:
        stream = events(response.iter_lines())
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        name, end = list(stream)[-1]
    assert (name, end["finish_reason"]) == ("end", "length")
    assert len(end["token_ids"]) == 1500
    assert server.process.wait(WAIT_S) == 0


def test_draining_server_refuses_and_says_why(long_model: Path, tmp_path: Path) -> None:
    server = LiveServer(long_model, tmp_path / "log", LLORCH_SHUTDOWN_GRACE_S="300").wait_until_ready()
    body = {**ENDLESS, "job_id": "last"}
    with server.stream("/generate", json=body) as response:
        stream = events(response.iter_lines())
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("stopping")
        for _ in wait_until(WAIT_S):
            ready = server.get("/ready")
            if ready.json()["stage"] == "stopping":
                break
        refused = server.post("/generate", json={"prompt": "a"})
        assert ready.status_code == 503
        assert (refused.status_code, refused.json()["stage"]) == (503, "stopping")
        server.assert_alive()
        assert server.post("/cancel", json={"job_id": "last"}).status_code == 200
        name, end = list(stream)[-1]
    assert (name, end["finish_reason"]) == ("end", "abort")
    assert server.process.wait(WAIT_S) == 0


def test_streams_that_are_unfinished_after_the_grace_period_are_aborted(
    long_model: Path, tmp_path: Path
) -> None:
    server = LiveServer(long_model, tmp_path / "log", LLORCH_SHUTDOWN_GRACE_S="0.2").wait_until_ready()
    with server.stream("/generate", json=ENDLESS) as response:
        stream = events(response.iter_lines())
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        name, end = list(stream)[-1]
    assert (name, end["finish_reason"]) == ("end", "abort")
    assert server.process.wait(WAIT_S) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_the_process_at_once(
    long_model: Path, tmp_path: Path, second: signal.Signals
) -> None:
    server = LiveServer(long_model, tmp_path / "log", LLORCH_SHUTDOWN_GRACE_S="300").wait_until_ready()
    with server.stream("/generate", json=ENDLESS) as response:
        next(response.iter_lines())
        server.process.send_signal(signal.SIGINT)
        server.wait_for_log("stopping")
        server.process.send_signal(second)
        assert server.process.wait(WAIT_S) == -second  # by the signal, long before the grace period is over


def test_log_has_counts_and_times_and_no_text(long_model: Path, tmp_path: Path) -> None:
    server = LiveServer(long_model, tmp_path / "log", "--log-format", "json", "--log-level", "debug")
    try:
        server.wait_until_ready()
        stream = generate_events(
            server.url, prompt="my secret world", max_tokens=3, ignore_eos=True, job_id="j"
        )
        server.wait_for_log("j: length")
        records = [json.loads(line) for line in server.log.splitlines()]
        record = next(record for record in records if record.get("job_id") == "j" and "outcome" in record)
        assert record["completion_tokens"] == 3
        assert record["prompt_tokens"] == stream[0][1]["prompt_tokens"]
        assert {"queue_s", "prompt_s", "decode_s", "total_s", "outcome", "time", "level"} <= set(record)
        assert "secret" not in server.log
    finally:
        assert server.stop() == 0


def test_port_in_use_is_one_line_and_exit_2(server: LiveServer, long_model: Path) -> None:
    result = llorch("serve", "-m", str(long_model), "--port", str(server.port))
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"llorch: error: cannot listen on 127.0.0.1 port {server.port}: Address already in use; "
        "--port N takes another, --port 0 any that is free"
    ]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"llama.block_count": 3}, "tensor 'blk.1.attn_norm.weight' is missing"),
        ({"tokenizer.ggml.model": "t5"}, "tokenizer model 't5' is not supported"),
    ],
)
def test_a_file_that_cannot_be_served_is_one_line_before_the_port_is_asked_for(
    server: LiveServer, tmp_path: Path, overrides: dict[str, Any], said: str
) -> None:
    path = tmp_path / "bad.gguf"
    write_tiny_llama(path, overrides=overrides)
    result = llorch("serve", "-m", str(path), "--port", str(server.port))  # which is taken
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert said in line


def test_a_file_that_is_no_model_is_one_line_and_nothing_listens(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 60)
    result = llorch("serve", "-m", str(path), "--port", "0")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"llorch: error: {path}: ")
