"""What supervisors and proxies meet: open probes, the list of hosts, every address of a name, and no redirect."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import refused
from tests.support.live_server import WAIT_S, LiveServer
from tests.support.raw_http import body_of, exchange, headers_of, request, status_of

PROBES = ["/health", "/health/", "/ready", "/ready/"]


@pytest.fixture(scope="module")
def guarded(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with a key, on every address of localhost."""
    log = tmp_path_factory.mktemp("guarded") / "log"
    live = LiveServer(long_model, log, "--host", "localhost", LLORCH_API_KEY="sesame").wait_until_ready()
    yield live
    assert live.stop() == 0


@pytest.mark.parametrize("path", PROBES)
def test_probes_need_no_key_and_answer_get_and_head(guarded: LiveServer, path: str) -> None:
    whole = exchange(guarded.port, request("GET", path, "Connection: close"))
    head = exchange(guarded.port, request("HEAD", path, "Connection: close"))
    assert status_of(whole) == status_of(head) == 200
    assert body_of(whole) == (b'{"status":"ok"}' if "health" in path else b'{"stage":"ready"}')
    assert body_of(head) == b""
    assert headers_of(head)["content-length"] == headers_of(whole)["content-length"]


@pytest.mark.parametrize("path", ["/health//", "//health", "/healthy", "/health/../generate", "/ready/x"])
def test_nothing_near_a_probe_is_open(guarded: LiveServer, path: str) -> None:
    assert status_of(exchange(guarded.port, request("GET", path, "Connection: close"))) == 401


@pytest.mark.parametrize("path", PROBES)
def test_probes_take_no_other_method(server: LiveServer, path: str) -> None:
    answer = exchange(server.port, request("POST", path, "Connection: close"))
    assert status_of(answer) == 405
    assert set(headers_of(answer)["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", PROBES)
def test_a_probe_by_http_1_0_without_host_is_answered(server: LiveServer, path: str) -> None:
    answer = exchange(server.port, request("GET", path, version="1.0", host=""))
    assert status_of(answer) == 200
    assert status_of(exchange(server.port, request("GET", path, version="1.0", host="evil.example"))) == 403


@pytest.mark.parametrize("host", ["[::1]evil", "[::1", "a@localhost", "localhost:80:80", "[127.0.0.1]"])
def test_a_host_that_only_begins_well_is_refused(server: LiveServer, host: str) -> None:
    assert status_of(exchange(server.port, request("GET", "/health", "Connection: close", host=host))) == 403


def test_with_a_key_the_host_header_does_not_matter(guarded: LiveServer) -> None:
    """A web page does not know the key."""
    key = "Authorization: Bearer sesame"
    for host in ("llm.example", "[::1]evil", "192.0.2.1"):
        answer = exchange(guarded.port, request("GET", "/openapi.json", key, "Connection: close", host=host))
        assert status_of(answer) == 200


def test_a_proxys_name_is_allowed_when_it_is_listed(long_model: Path, tmp_path: Path) -> None:
    server = LiveServer(long_model, tmp_path / "log", "--allowed-hosts", "llm.example,[2001:db8::1]")
    try:
        for host, status in (
            ("llm.example", 200),
            ("LLM.example.:443", 200),
            ("[2001:DB8::1]", 200),
            ("localhost", 200),
            ("other.example", 403),
        ):
            answer = exchange(server.port, request("GET", "/health", "Connection: close", host=host))
            assert status_of(answer) == status
        assert b'add \\"other.example\\" to allowed_hosts' in body_of(answer)
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize(
    "path",
    [
        "/docs/",
        "/generate/",
        "/openapi.json/",
        "//evil.example",
        "//evil.example/..",
        "/health//",
        "/docs/oauth2-redirect/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_answer_is_a_redirect(guarded: LiveServer, method: str, path: str) -> None:
    for key in ("Authorization: Bearer sesame", "X: x"):
        data = request(
            method, path, key, "X-Forwarded-Host: evil.example", "Connection: close", host="evil.example"
        )
        answer = exchange(guarded.port, data)
        assert status_of(answer) in (401, 404)
        assert "location" not in headers_of(answer)
        assert b"evil" not in answer


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_no_page_is_built_from_the_host_header(guarded: LiveServer, path: str) -> None:
    data = request("GET", path, "Authorization: Bearer sesame", "Connection: close", host="evil.example")
    answer = exchange(guarded.port, data)
    assert status_of(answer) == 200
    assert b"evil" not in answer


def test_openapi_describes_each_probe_once(server: LiveServer) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    probes = {path: set(item) for path, item in paths.items() if path.strip("/") in ("health", "ready")}
    assert probes == {"/health": {"get"}, "/ready": {"get"}}


def test_localhost_is_served_on_every_url_that_is_printed(guarded: LiveServer) -> None:
    line = guarded.wait_for_log("listens on .*;")
    addresses = re.findall(r"http://\[?([\d.:a-f]+?)\]?:(\d+)", line)
    assert {int(port) for _, port in addresses} == {guarded.port}
    assert {address for address, _ in addresses} == {
        info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
    }
    for address, port in addresses:
        with contextlib.closing(socket.create_connection((address, int(port)), timeout=WAIT_S)) as client:
            client.sendall(request("GET", "/health", version="1.0"))
            assert client.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("flags", [("--host", ".."), ("--host", ""), ("--allowed-hosts", "llm.example:80")])
def test_a_host_that_is_none_is_one_line_and_exit_2(long_model: Path, flags: tuple[str, ...]) -> None:
    line = refused("serve", "-m", str(long_model), "--port", "0", *flags)
    assert line.startswith("llorch: error: ")
