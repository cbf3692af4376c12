"""Clients that leave, cancel or crowd: a generation without a reader must be aborted, wherever it is."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.support.live_server import WAIT_S, LiveServer, events, wait_until
from tests.support.raw_http import connect, generation

ENDLESS: dict[str, Any] = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}
LONG_PROMPT = {"token_ids": [5] * 60000, "max_tokens": 100, "ignore_eos": True}


def has_ended(server: LiveServer, job_id: str) -> bool:
    """Whether the engine has let go of `job_id`: only then is the name free for another request."""
    answer = server.post(
        "/generate",
        json={"prompt": "a", "max_tokens": 1, "job_id": job_id, "stream": False},
    )
    assert answer.status_code in (200, 409, 503)
    return answer.status_code == 200


def is_aborted(server: LiveServer, job_id: str) -> bool:
    """Wait for the end of a generation: whether it was aborted, and its name is free again."""
    reason = server.wait_for_log(rf"\b{job_id} ends: \w+").rpartition(" ")[2]
    return reason == "abort" and any(has_ended(server, job_id) for _ in wait_until(WAIT_S))


@contextmanager
def streaming(server: LiveServer, body: dict[str, object], job_id: str) -> Iterator[httpx.Response]:
    """An open stream; names and places of those who have just left are waited for."""
    body = {**body, "job_id": job_id}
    for _ in wait_until(WAIT_S):
        with server.stream("/generate", json=body) as response:
            if response.status_code in (409, 503):
                continue
            assert response.status_code == 200
            yield response
            return
    raise TimeoutError(f"{job_id} was not admitted")


def send_request(server: LiveServer, body: dict[str, object]) -> socket.socket:
    """Send a request on a bare socket and read nothing."""
    content = json.dumps(body).encode()
    connection = server.connect()
    connection.sendall(
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(content) + content
    )
    return connection


def first_event(response: httpx.Response) -> str:
    return next(events(response.iter_lines()))[0]


def test_client_that_leaves_in_mid_stream(server: LiveServer) -> None:
    with streaming(server, ENDLESS, "mid") as response:
        stream = events(response.iter_lines())
        assert [next(stream)[0] for _ in range(4)] == ["started", "token", "token", "token"]
    assert is_aborted(server, "mid")
    server.wait_for_log("mid: client left")


def test_client_that_leaves_while_its_prompt_is_read(server: LiveServer) -> None:
    with streaming(server, LONG_PROMPT, "reading") as response:
        assert first_event(response) == "started"
        server.wait_for_log("reading begins")
    assert is_aborted(server, "reading")


def test_client_that_leaves_while_queued(server: LiveServer) -> None:
    with streaming(server, ENDLESS, "q1"), streaming(server, ENDLESS, "q2"):
        with streaming(server, ENDLESS, "queued"):
            pass
        server.wait_for_log("queued: client left")
        # Both places in the line are free again, so two requests can wait and a third cannot.
        with streaming(server, ENDLESS, "queued"), streaming(server, ENDLESS, "queued2"):
            assert not has_ended(server, "q1")
    assert is_aborted(server, "queued")
    assert is_aborted(server, "q1")


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("has_begun", [False, True])
def test_client_that_leaves_without_reading_anything(
    server: LiveServer, is_streamed: bool, has_begun: bool
) -> None:
    job_id = f"unread-{is_streamed}-{has_begun}"
    connection = send_request(server, {**ENDLESS, "job_id": job_id, "stream": is_streamed})
    if has_begun:
        server.wait_for_log(f"{job_id} begins")
    connection.close()
    assert is_aborted(server, job_id)


@pytest.mark.parametrize("is_apart", [False, True])
def test_client_that_leaves_after_bytes_behind_its_request(server: LiveServer, is_apart: bool) -> None:
    """Old clients end a body with a line feed that they do not count."""
    job_id = f"behind-{is_apart}"
    with connect(server.port) as connection:
        data = generation(**ENDLESS, job_id=job_id, stream=False)
        connection.sendall(data if is_apart else data + b"\r\n")
        server.wait_for_log(f"{job_id} begins")
        if is_apart:
            connection.sendall(b"\r\n")
    assert is_aborted(server, job_id)


def test_client_of_one_body_leaves_while_its_prompt_is_read(server: LiveServer) -> None:
    connection = send_request(server, {**LONG_PROMPT, "job_id": "one-body", "stream": False})
    server.wait_for_log("one-body begins")
    assert not has_ended(server, "one-body")
    connection.close()
    assert is_aborted(server, "one-body")
    server.wait_for_log("one-body ends: abort after 0 tokens")


@pytest.mark.parametrize("body", [ENDLESS, LONG_PROMPT], ids=["decoding", "reading"])
def test_cancel_ends_the_stream_with_abort(server: LiveServer, body: dict[str, object]) -> None:
    with streaming(server, body, "c1") as response:
        stream = events(response.iter_lines())
        assert next(stream)[0] == "started"
        answer = server.post("/cancel", json={"job_id": "c1"})
        assert answer.json() == {"job_id": "c1", "cancelled": True}
        name, end = list(stream)[-1]
    assert (name, end["finish_reason"]) == ("end", "abort")
    assert end["usage"]["completion_tokens"] == len(end["token_ids"])


def test_cancel_of_an_unknown_job_is_404_and_of_nonsense_400(server: LiveServer) -> None:
    answer = server.post("/cancel", json={"job_id": "nobody"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (404, "job_id")
    answer = server.post("/cancel", json={"job": "x"})
    assert answer.status_code == 400
    assert {error["field"] for error in answer.json()["errors"]} == {"job", "job_id"}


def test_full_queue_is_503_with_retry_after(server: LiveServer) -> None:
    with (
        streaming(server, ENDLESS, "f1"),
        streaming(server, ENDLESS, "f2"),
        streaming(server, ENDLESS, "f3"),
        streaming(server, ENDLESS, "f4"),
    ):
        answer = server.post("/generate", json={"prompt": "a"})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["code"] == "queue_full"
        assert answer.json()["retriable"] is True
        assert server.get("/health").status_code == 200
    assert all(is_aborted(server, job_id) for job_id in ("f1", "f2", "f3", "f4"))


def test_health_is_answered_while_a_prompt_is_read(server: LiveServer) -> None:
    with streaming(server, LONG_PROMPT, "busy") as response:
        stream = events(response.iter_lines())
        assert next(stream)[0] == "started"
        server.wait_for_log("busy begins")
        for _ in range(20):
            server.assert_alive()
        server.post("/cancel", json={"job_id": "busy"})
        name, end = list(stream)[-1]
    assert (name, end["finish_reason"]) == ("end", "abort")
    assert end["usage"]["completion_tokens"] == 0  # the prompt was still being read after all those answers
