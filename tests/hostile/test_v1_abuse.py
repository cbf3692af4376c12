"""Clients of the routes that others know, which leave, half-close or crowd: places are free again, nothing fails."""

from __future__ import annotations

import concurrent.futures
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_server import WAIT_S, LiveServer, wait_until
from tests.support.raw_http import read_to_end, request, status_of

LONG: list[int] = [5] * 60000
ENDLESS: dict[str, Any] = {"max_tokens": 60000, "ignore_eos": True}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], **ENDLESS}
TEXT: dict[str, Any] = {"prompt": "Hello", **ENDLESS}
PATHS: dict[str, dict[str, Any]] = {
    "/v1/completions": TEXT,
    "/v1/chat/completions": CHAT,
    "/completion": {"prompt": "Hello", "n_predict": 60000, "ignore_eos": True},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 60000, "ignore_eos": True},
    # Its answers may end by themselves, so it is the prompt that keeps it busy.
    "/v1/messages": {"messages": [{"role": "user", "content": "word " * 6000}], "max_tokens": 60000},
}
PLACES = 4
"""Of the server: two that run and two that wait."""
N_OPENS = 8000


def wire(path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    headers = ("Content-Type: application/json", f"Content-Length: {len(content)}")
    return request("POST", path, *headers, body=content)


def send(server: LiveServer, path: str, **body: Any) -> socket.socket:
    connection = server.connect()
    connection.sendall(wire(path, body))
    return connection


def wait_until_idle(server: LiveServer) -> None:
    """Nothing runs and nothing waits."""
    for _ in wait_until(WAIT_S):
        slots = server.get("/slots").json()
        if not any(slot["is_processing"] for slot in slots):
            return
    raise TimeoutError(server.log[-2000:])


def wait_until_busy(server: LiveServer, n: int = 1) -> None:
    for _ in wait_until(WAIT_S):
        if sum(slot["is_processing"] for slot in server.get("/slots").json()) >= n:
            return
    raise TimeoutError(server.log[-2000:])


def assert_all_places_are_free(server: LiveServer) -> None:
    """The server is idle, and as many requests as it has places are answered at once.

    In the end: it may still find requests in its sockets whose clients have left.
    """
    wait_until_idle(server)

    def short(_: int) -> int:
        body = {"prompt": "a", "max_tokens": 2, "ignore_eos": True}
        return server.post("/v1/completions", json=body).status_code

    with concurrent.futures.ThreadPoolExecutor(PLACES) as pool:
        for _ in wait_until(WAIT_S):
            statuses = list(pool.map(short, range(PLACES)))
            if statuses == [200] * PLACES:
                break
            assert set(statuses) <= {200, 503}
        assert statuses == [200] * PLACES
    server.assert_alive()


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", PATHS)
def test_who_leaves_while_it_is_served_frees_its_place(
    server: LiveServer, path: str, is_streamed: bool
) -> None:
    wait_until_idle(server)
    with send(server, path, **PATHS[path], stream=is_streamed) as client:
        wait_until_busy(server)
        if is_streamed:
            assert status_of(client.recv(65536)) == 200
    assert_all_places_are_free(server)


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", ["/v1/completions", "/completion"])
def test_who_leaves_while_its_prompt_is_read_frees_its_place(
    server: LiveServer, path: str, is_streamed: bool
) -> None:
    wait_until_idle(server)
    with send(server, path, **PATHS[path] | {"prompt": LONG}, stream=is_streamed):
        wait_until_busy(server)
    assert_all_places_are_free(server)


@pytest.mark.parametrize("path", PATHS)
def test_who_leaves_while_it_waits_frees_its_place(server: LiveServer, path: str) -> None:
    wait_until_idle(server)
    runners = [send(server, "/v1/completions", **TEXT, stream=True) for _ in range(2)]
    wait_until_busy(server, 2)
    waiting = [send(server, path, **PATHS[path], stream=is_streamed) for is_streamed in (True, False)]
    for connection in (*waiting, *runners):
        connection.close()
    assert_all_places_are_free(server)


@pytest.mark.parametrize("path", PATHS)
def test_who_leaves_before_its_body_is_whole_costs_nothing(server: LiveServer, path: str) -> None:
    whole = wire(path, PATHS[path])
    for n in (10, len(whole) - 5):
        with server.connect() as client:
            client.sendall(whole[:n])
    assert_all_places_are_free(server)


@pytest.mark.parametrize("path", PATHS)
def test_who_closes_its_sending_side_is_taken_for_gone_or_answered(server: LiveServer, path: str) -> None:
    """Either is right by HTTP; holding the place of a client for ever is not."""
    wait_until_idle(server)
    with send(server, path, **PATHS[path], stream=True) as client:
        wait_until_busy(server)
        client.shutdown(socket.SHUT_WR)
        wait_until_idle(server)
    assert_all_places_are_free(server)


def test_fifty_more_than_there_are_places_are_told_to_come_back(server: LiveServer) -> None:
    wait_until_idle(server)
    holders = [send(server, "/v1/completions", **TEXT, stream=True) for _ in range(PLACES)]
    try:
        for holder in holders:  # which says so as soon as it has its place
            assert status_of(holder.recv(65536)) == 200
        wait_until_busy(server, 2)

        def refused(k: int) -> Any:
            return server.post(path := list(PATHS)[k % len(PATHS)], json=PATHS[path])

        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(refused, range(50)))
        assert {answer.status_code for answer in answers} <= {429, 503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert all(answer.json()["error"]["message"] for answer in answers)
        server.assert_alive()
    finally:
        for holder in holders:
            holder.close()
    assert_all_places_are_free(server)


def test_a_prefix_cached_by_a_request_that_left_gives_the_same_bits(server: LiveServer) -> None:
    prompt = [7 + i % 200 for i in range(1500)]
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    body["return_token_ids"] = True
    fresh = server.post("/v1/completions", json=body | {"cache_prompt": False}).json()
    with send(server, "/v1/completions", **body | {"max_tokens": 60000, "prompt": [*prompt, *LONG]}):
        wait_until_busy(server)
        time.sleep(0.2)  # some of the prompt may be read by then; the law holds for any part of it
    wait_until_idle(server)
    after = server.post("/v1/completions", json=body).json()
    again = server.post("/v1/completions", json=body).json()
    ids = [answer["choices"][0]["token_ids"] for answer in (fresh, after, again)]
    assert ids[0] == ids[1] == ids[2]
    cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert 0 < cached < len(prompt)


@pytest.mark.slow
def test_a_reader_that_stalls_is_dropped_and_others_are_served(long_model: Path, tmp_path: Path) -> None:
    """Its first events have the log probabilities of prompts, more bytes than the kernel keeps for a connection."""
    flags = ("-np", "4", "--send-timeout-s", "0.5", "--log-level", "debug")
    server = LiveServer(long_model, tmp_path / "log", *flags).wait_until_ready()
    large = TEXT | {"prompt": [LONG[:7000]] * PLACES, "echo": True, "logprobs": 5, "stream": True}
    try:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(wire("/v1/completions", large))
            server.wait_for_log(r"\.3 begins")
            server.wait_for_log("client left")
            assert_all_places_are_free(server)
    finally:
        assert server.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thousands_of_opens_and_closes_in_a_row_harm_nobody(server: LiveServer) -> None:
    """Connections that say nothing, half a request, or a whole one, beside a client that is answered meanwhile."""
    pieces = [b"", b"GET /hea", wire("/v1/completions", TEXT)[:60], wire("/v1/completions", TEXT)]

    def open_and_close() -> None:
        for n in range(N_OPENS):
            with server.connect() as client:
                client.sendall(pieces[n % len(pieces)])

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        crowd = pool.submit(open_and_close)
        n_answers = 0
        while not (crowd.done() and n_answers):
            answer = server.post("/v1/completions", json={"prompt": "a", "max_tokens": 2})
            assert answer.status_code in (200, 503)
            n_answers += answer.status_code == 200
            server.assert_alive()
        crowd.result()
    assert_all_places_are_free(server)
    assert "Traceback" not in server.log


def test_health_is_answered_between_the_pieces_of_a_long_prompt(server: LiveServer) -> None:
    """Twenty probes are answered while one prompt of 60,000 tokens is read: none waits for the prompt."""
    wait_until_idle(server)
    with send(server, "/v1/completions", prompt=LONG, max_tokens=1, stream=False) as client:
        wait_until_busy(server)
        for _ in range(20):
            assert server.get("/health").status_code == 200
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
    assert_all_places_are_free(server)


def test_one_whole_answer_reaches_a_client_that_sends_slowly(server: LiveServer) -> None:
    body = {"prompt": "a", "max_tokens": 3, "ignore_eos": True}
    whole = wire("/v1/completions", body).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    with server.connect() as client:
        for i in range(0, len(whole), 40):
            client.sendall(whole[i : i + 40])
            time.sleep(0.01)
        answer = read_to_end(client)
    assert status_of(answer) == 200
