"""Clients that speak HTTP/1.0, and those that close their sending side before they have the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.live_server import WAIT_S, LiveServer, events
from tests.support.raw_http import (
    body_of,
    connect,
    exchange,
    generation,
    headers_of,
    read_to_end,
    request,
    status_of,
)

ENDLESS: dict[str, Any] = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}
SHORT: dict[str, Any] = {"prompt": "Hello", "max_tokens": 3, "ignore_eos": True}


def test_http_1_0_gets_a_stream_without_chunks_that_ends_with_the_connection(server: LiveServer) -> None:
    answer = exchange(server.port, generation("1.0", **SHORT))
    assert status_of(answer) == 200
    headers = headers_of(answer)
    assert "transfer-encoding" not in headers
    assert "content-length" not in headers
    assert headers["connection"] == "close"
    names = [name for name, _ in events(iter(body_of(answer).decode().split("\n")[:-1]))]
    assert names == ["started", "token", "token", "token", "end"]


@pytest.mark.parametrize("keep", ["Connection: keep-alive", "Connection: close", "X: x"])
def test_http_1_0_gets_a_body_with_its_length_and_the_connection_ends(server: LiveServer, keep: str) -> None:
    answer = exchange(server.port, request("GET", "/ready", keep, version="1.0"))
    assert headers_of(answer)["connection"] == "close"
    assert "transfer-encoding" not in headers_of(answer)
    assert int(headers_of(answer)["content-length"]) == len(body_of(answer))
    whole = exchange(server.port, generation("1.0", **SHORT, stream=False))
    assert json.loads(body_of(whole))["finish_reason"] == "length"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (("GET", "/health"), 200),
        (("HEAD", "/ready/"), 200),
        (("GET", "/openapi.json"), 200),
        (("GET", "/nothing"), 404),
        (("PUT", "/generate"), 405),
        (("POST", "/generate"), 415),
    ],
)
def test_a_half_closed_client_gets_an_answer_that_needs_no_generation(
    server: LiveServer, data: tuple[str, str], status: int, version: str
) -> None:
    for _ in range(5):
        answer = exchange(server.port, request(*data, version=version), is_half_closed=True)
        assert status_of(answer) == status
        if data[0] != "HEAD":
            assert len(body_of(answer)) == int(headers_of(answer)["content-length"])


def test_a_half_closed_client_learns_what_is_wrong_with_its_request(server: LiveServer) -> None:
    answer = exchange(server.port, generation(prompt="a", top_k=-1), is_half_closed=True)
    assert (status_of(answer), json.loads(body_of(answer))["errors"][0]["field"]) == (400, "top_k")


def test_a_half_closed_client_gets_the_answers_to_all_it_asked(server: LiveServer) -> None:
    data = request("GET", "/health") + request("GET", "/docs") * 20 + request("GET", "/ready")
    answers = exchange(server.port, data, is_half_closed=True)
    assert answers.count(b"200 OK") == 22
    assert answers.endswith(b'{"stage":"ready"}')


def test_a_stream_to_a_half_closed_client_is_aborted(server: LiveServer) -> None:
    begin = len(server.log)
    answer = exchange(server.port, generation(**ENDLESS, job_id="half"), is_half_closed=True)
    assert b"event: end" not in answer
    server.wait_for_log("half ends: abort", after=begin)
    server.wait_for_log("half: client left", after=begin)
    assert "Traceback" not in server.log[begin:]
    assert "ERROR" not in server.log[begin:]


def test_a_client_that_closes_half_in_mid_stream_is_aborted(server: LiveServer) -> None:
    begin = len(server.log)
    with connect(server.port) as client:
        client.sendall(generation(**ENDLESS, job_id="half-mid"))
        while b"event: token" not in client.recv(65536):
            pass
        client.shutdown(1)
        client.settimeout(WAIT_S)
        assert b"event: end" not in read_to_end(client)
    server.wait_for_log("half-mid ends: abort", after=begin)
    server.wait_for_log("half-mid: client left", after=begin)
    assert "ERROR" not in server.log[begin:]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_one_body_for_a_half_closed_client_says_that_it_was_aborted(server: LiveServer, version: str) -> None:
    data = generation(version, **ENDLESS, stream=False, job_id=f"half-{version}")
    answer = exchange(server.port, data, is_half_closed=True)
    assert (status_of(answer), json.loads(body_of(answer))["finish_reason"]) == (200, "abort")


def test_who_closes_half_before_the_request_is_whole_has_left(server: LiveServer) -> None:
    for data in (b"", b"GET /health", generation(**SHORT)[:-3]):
        assert exchange(server.port, data, is_half_closed=True) == b""
    server.assert_alive()
