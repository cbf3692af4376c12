"""Showing a trace in Perfetto's page, with a browser that is a few lines of Python."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llorch.errors import LlorchError
from llorch.trace.viewer import show

VIEWER = "https://ui.perfetto.dev"
CONTENT = b'{"traceEvents": []}' * 100_000


class Browser(webbrowser.BaseBrowser):
    """Does something with the address that it is told to open."""

    def __init__(self, visit: Callable[[str, int], None]) -> None:
        super().__init__()
        self._visit = visit
        self.opened = ""
        self.is_done = threading.Event()

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        self.opened = url
        trace = urlsplit(url.partition("url=")[2])
        assert trace.hostname == "127.0.0.1"
        assert trace.port is not None
        self._visit(trace.path, trace.port)
        self.is_done.set()
        return True


def visit_by(visit: Callable[[str, int], None]) -> Browser:
    browser = Browser(visit)
    webbrowser.register("under test", None, browser, preferred=True)
    return browser


@pytest.fixture(autouse=True)
def other_browsers() -> Iterator[None]:
    yield
    order, known = webbrowser._tryorder, webbrowser._browsers  # type: ignore[attr-defined]
    known.pop("under test", None)
    if order and "under test" in order:
        order.remove("under test")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.json"
    path.write_bytes(CONTENT)
    return path


def request(port: int, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=100)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    found = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return found


def test_the_page_of_the_viewer_gets_the_file_and_the_server_ends(trace: Path) -> None:
    seen = []

    def visit(path: str, port: int) -> None:
        seen.append(port)
        status, headers, _ = request(port, "OPTIONS", path, Origin=VIEWER)
        assert (status, headers["Access-Control-Allow-Private-Network"]) == (204, "true")
        status, headers, content = request(port, "GET", path, Origin=VIEWER)
        assert (status, content) == (200, CONTENT)
        assert headers["Access-Control-Allow-Origin"] == VIEWER
        assert headers["Content-Type"] == "application/json"

    browser = visit_by(visit)
    show(trace, port=0)
    assert browser.is_done.wait(100)  # `show` returns as soon as the file is sent
    assert browser.opened == f"{VIEWER}/#!/?url=http://127.0.0.1:{seen[0]}/trace.json"
    with pytest.raises(ConnectionRefusedError):
        request(seen[0], "GET", "/trace.json")


def test_nothing_else_is_served_and_no_other_name_is_heeded(trace: Path) -> None:
    answers = []

    def visit(path: str, port: int) -> None:
        answers.append(request(port, "GET", "/etc/passwd")[0])
        answers.append(request(port, "GET", path, Host="evil.example:9001")[0])
        answers.append(request(port, "POST", path)[0])
        idle = socket.create_connection(("127.0.0.1", port))  # browsers open connections ahead
        answers.append(request(port, "GET", path)[0])
        idle.close()

    browser = visit_by(visit)
    show(trace, port=0)
    assert browser.is_done.wait(100)
    assert answers == [404, 404, 501, 200]


def test_a_browser_that_never_asks_is_waited_for_no_longer_than_said(trace: Path) -> None:
    visit_by(lambda path, port: None)
    with pytest.raises(LlorchError, match=r"no browser fetched the trace in 0 s; open .* and choose .*trace"):
        show(trace, wait_s=0.2, port=0)


def test_a_browser_that_returns_only_when_it_is_closed_gets_the_file(trace: Path) -> None:
    closed = threading.Event()

    def visit(path: str, port: int) -> None:
        assert request(port, "GET", path)[0] == 200
        closed.wait(100)

    visit_by(visit)
    show(trace, port=0)
    closed.set()


def test_a_port_that_is_taken_is_said(trace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LlorchError, match=f"port {port} cannot be used .Address already in use.; open"):
            show(trace, port=port)


def test_where_no_browser_is_that_is_said_at_once(trace: Path) -> None:
    script = "import sys, pathlib, llorch.trace.viewer as v; v.show(pathlib.Path(sys.argv[1]), port=0)"
    bare = {key: value for key, value in os.environ.items() if key in ("PYTHONPATH", "HOME")}
    done = subprocess.run(
        [sys.executable, "-c", script, str(trace)],
        env={**bare, "PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (
        "LlorchError: --open: no browser could be started here; open https://ui.perfetto.dev" in done.stderr
    )
