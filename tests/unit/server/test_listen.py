"""Listening sockets: every address of a name, one port, and a pause when no more files may be opened."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from llorch.errors import InputError
from llorch.server import listen
from llorch.server.listen import Listener, LoopErrors, are_local, bind, urls_of

V4 = (socket.AF_INET, ("127.0.0.1", 0))
V6 = (socket.AF_INET6, ("::1", 0, 0, 0))


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@contextlib.contextmanager
def bound(host: str, port: int = 0) -> Iterator[list[Listener]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(listener) for listener in bind(host, port)]


@pytest.fixture
def name_with(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes every name stand for the given addresses: /etc/hosts of this machine may know only one of `localhost`."""

    def choose(*addresses: tuple[int, tuple[Any, ...]]) -> None:
        def getaddrinfo(_host: str, port: int, *_: object, **__: object) -> list[tuple[Any, ...]]:
            return [
                (family, socket.SOCK_STREAM, 6, "", (address[0], port, *address[2:]))
                for family, address in addresses
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return choose


def test_localhost_listens_on_every_address_the_name_has() -> None:
    found = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    with bound("localhost") as listeners:
        assert 1 <= len(listeners) <= len(found)
        assert {listener.getsockname()[0] for listener in listeners} <= found
        assert are_local(listeners)


@needs_ipv6
def test_all_addresses_have_one_port_and_every_url_works(
    name_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_with(V6, V4, V4)
    with bound("localhost") as listeners:
        (port,) = {listener.getsockname()[1] for listener in listeners}
        assert urls_of(listeners) == [f"http://[::1]:{port}", f"http://127.0.0.1:{port}"]
        for address in ("::1", "127.0.0.1"):
            monkeypatch.undo()
            socket.create_connection((address, port), timeout=60).close()


@needs_ipv6
def test_a_port_that_is_taken_on_one_address_is_an_error(name_with: Any) -> None:
    name_with(V6, V4)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on localhost port {port}: Address already in"):
            bind("localhost", port)
    with bound("localhost", port):  # nothing was left behind on the other address
        pass


@needs_ipv6
def test_any_free_port_is_one_that_is_free_on_every_address(
    name_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_with(V6, V4)
    taken: list[socket.socket] = []
    real_bind = Listener.bind

    def bind_late(self: Listener, address: Any) -> None:
        """Another program takes the first port while it is free on one address only."""
        if self.family == socket.AF_INET and not taken:
            taken.append(socket.create_server(("127.0.0.1", address[1])))
        real_bind(self, address)

    monkeypatch.setattr(Listener, "bind", bind_late)
    with bound("localhost") as listeners:
        (port,) = {listener.getsockname()[1] for listener in listeners}
        assert port != taken[0].getsockname()[1]
    taken[0].close()


@pytest.mark.parametrize("missing", [(socket.AF_INET6, ("2001:db8::1", 0, 0, 0)), (999, ("x", 0))])
def test_an_address_this_machine_has_not_is_left_out_if_there_is_another(
    name_with: Any, missing: tuple[int, tuple[Any, ...]]
) -> None:
    name_with(missing, V4)
    with bound("localhost") as listeners:
        assert [listener.getsockname()[0] for listener in listeners] == ["127.0.0.1"]
    name_with(missing)
    with pytest.raises(InputError, match="cannot listen on localhost port 0: "):
        bind("localhost", 0)


def test_an_address_in_use_or_not_ours_is_named() -> None:
    with bound("127.0.0.1") as listeners:
        port = listeners[0].getsockname()[1]
        assert urls_of(listeners) == [f"http://127.0.0.1:{port}"]
        with pytest.raises(
            InputError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"
        ):
            bind("127.0.0.1", port)
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1 port 0: "):
        bind("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["..", "a b", "a" * 300, "ä" * 100, "a.\x00", "\udcff", "no.such.invalid"])
def test_a_host_that_is_none_is_one_line(host: str) -> None:
    with pytest.raises(InputError, match="cannot listen on ") as caught:
        bind(host, 0)
    message = str(caught.value)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 200


def test_addresses_of_others_are_not_local() -> None:
    with bound("0.0.0.0") as listeners:
        assert not are_local(listeners)
        assert urls_of(listeners)[0].startswith("http://127.0.0.1:")


def test_accept_says_once_that_it_cannot_and_works_again_after_the_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s, free = [100.0], [5]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    with bound("127.0.0.1") as (listener,), socket.create_connection(listener.getsockname()):
        monkeypatch.setattr(resource, "getrlimit", lambda _: (listener.fileno() + free[0], 4096))
        with pytest.raises(listen.AcceptPausedError) as caught:
            listener.accept()
        assert caught.value.errno == errno.EMFILE
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                listener.accept()
        now_s[0] += listen.PAUSE_S
        with pytest.raises(listen.AcceptPausedError):
            listener.accept()
        now_s[0] += listen.PAUSE_S
        free[0] = 1000
        listener.accept()[0].close()


def test_a_pause_is_one_warning_a_second_and_other_errors_are_the_loops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    handler, loop = LoopErrors(), asyncio.new_event_loop()
    error = listen.AcceptPausedError(errno.EMFILE, os.strerror(errno.EMFILE))
    with caplog.at_level(logging.WARNING):
        for step_s in (0, 0, 0.5, 0.6, 0.1):
            now_s[0] += step_s
            handler(loop, {"message": "socket.accept() out of system resource", "exception": error})
    assert len(caplog.records) == 2
    assert all("Too many open files" in text and "ulimit -n" in text for text in caplog.messages)
    caplog.clear()
    handler(loop, {"message": "something else", "exception": OSError(errno.EMFILE, "x")})
    loop.close()
    assert "something else" in caplog.text


def test_nothing_small_waits_for_the_acknowledgement_of_what_went_before() -> None:
    async def nodelay_of(listener: Listener) -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(note, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            writer.close()
            return await asyncio.wait_for(accepted, 60)

    with bound("127.0.0.1") as (listener,):
        assert asyncio.run(nodelay_of(listener)) == 1
