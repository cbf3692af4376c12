"""A real server on a Unix socket, and one that ends with its terminal."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest

from llorch.server.listen import bind
from tests.support.live_server import READY_S, WAIT_S, LiveServer, events, wait_until


class SocketServer(LiveServer):
    """A server on the socket `path`."""

    def __init__(self, model: Path, path: Path, *flags: str) -> None:
        self.path = path
        super().__init__(model, path.with_name("log"), "--host", str(path), "--log-level", "debug", *flags)

    def _wait_for_url(self) -> str:
        for _ in wait_until(READY_S):
            if re.search(f"listens on unix:{re.escape(str(self.path))}; loading", self.log):
                return "http://localhost:0"
            assert self.process.poll() is None, self.log
        raise TimeoutError(self.log)

    def client(self) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.path)), base_url="http://localhost", timeout=WAIT_S
        )

    def wait_until_ready(self) -> Self:
        with self.client() as client:
            for _ in wait_until(READY_S):
                if client.get("/ready").status_code == 200:
                    return self
        raise TimeoutError(self.log)


@pytest.fixture(scope="module")
def live(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketServer]:
    """A server that finds the socket of a dead one at its path."""
    path = tmp_path_factory.mktemp("socket") / "llorch.sock"
    bind(str(path), 0)[0].close()
    assert path.exists()
    server = SocketServer(long_model, path, "-np", "1", "--cors-origins", "*")
    yield server.wait_until_ready()
    assert server.stop() == 0
    assert not path.exists()


def test_only_its_user_may_connect_and_it_says_nothing_of_a_key(live: SocketServer) -> None:
    assert stat.S_IMODE(live.path.stat().st_mode) == 0o600
    assert "anyone who reaches" not in live.log


def test_a_server_for_all_web_pages_warns_that_it_has_no_key(live: SocketServer) -> None:
    assert "any web page can use this server from its readers' browsers" in live.log


def test_it_answers_and_streams(live: SocketServer) -> None:
    with live.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        with client.stream("POST", "/generate", json={"prompt": "Hello", "max_tokens": 3}) as answer:
            assert [name for name, _ in events(answer.iter_lines())][-1] == "end"


def test_every_host_header_will_do(live: SocketServer) -> None:
    with live.client() as client:
        for host in ("llm.example", "127.0.0.1:1234", "backend_pool"):
            assert client.get("/v1/models", headers={"Host": host}).status_code == 200


def test_a_client_that_leaves_ends_its_generation(live: SocketServer) -> None:
    before = len(live.log)
    body = {"prompt": "Hello", "max_tokens": 60_000, "ignore_eos": True}
    with live.client() as client, client.stream("POST", "/generate", json=body) as answer:
        assert next(events(answer.iter_lines()))[0] == "started"
    live.wait_for_log("client left", after=before)


def test_hanging_up_reads_nothing_where_there_is_nothing_to_read(live: SocketServer) -> None:
    live.process.send_signal(signal.SIGHUP)
    live.wait_for_log("there is no file of keys and no certificate")


@pytest.mark.slow
def test_a_second_server_does_not_take_the_place_of_a_living_one(
    live: SocketServer, long_model: Path
) -> None:
    other = live.path.with_name("other")
    with pytest.raises(RuntimeError, match=r"llorch.sock: another process listens there"):
        LiveServer(long_model, other, "--host", str(live.path))
    with live.client() as client:
        assert client.get("/health").status_code == 200


@pytest.mark.slow
def test_a_server_ends_with_the_terminal_that_it_was_started_from(long_model: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()

    class InTerminal(LiveServer):
        wrapper = ("setsid", "--ctty")
        stdin = theirs

    before = signal.signal(
        signal.SIGHUP, signal.SIG_DFL
    )  # `nohup` has the tests ignore it, and so would the server
    try:
        server = InTerminal(long_model, tmp_path / "log")
    finally:
        signal.signal(signal.SIGHUP, before)
    os.close(theirs)
    try:
        server.assert_alive()
        server.process.send_signal(signal.SIGHUP)  # the terminal is there, so somebody means the files
        server.wait_for_log("there is no file of keys and no certificate")
        os.close(ours)
        server.wait_for_log("stopping")
        assert server.process.wait(WAIT_S) == 0, server.log
    finally:
        server.process.kill()
