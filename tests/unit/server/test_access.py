"""Which hosts count as this machine."""

from __future__ import annotations

import pytest

from llorch.server.access import host_of, is_loopback


@pytest.mark.parametrize(
    "header",
    ["localhost", "localhost:80", "LOCALHOST.", "app.localhost", "127.0.0.1", "127.9.9.9:1", "[::1]:80"],
)
def test_this_machine(header: str) -> None:
    assert is_loopback(host_of(header))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "[::]:80",
    ],
)
def test_other_machines(header: str) -> None:
    assert not is_loopback(host_of(header))
