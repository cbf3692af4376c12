"""Notes to a service manager: sent where one asks for them, and never in the way."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from llorch.machine.service_manager import notify


@pytest.mark.parametrize("is_abstract", [False, True])
def test_lines_arrive_in_one_datagram(
    is_abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if is_abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if is_abstract else name)
        notify("READY=1", "STATUS=serves Grüße\nMAINPID=1 \udcff")
        assert manager.recv(1000).decode() == "READY=1\nSTATUS=serves Grüße MAINPID=1 ?"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "relative", "vsock:2:1", "/" + "x" * 300, "@"])
def test_nobody_has_to_listen(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


def test_a_manager_that_reads_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        for _ in range(2000):
            notify("STATUS=" + "x" * 1000)
        assert manager.recv(10000).startswith(b"STATUS=")
