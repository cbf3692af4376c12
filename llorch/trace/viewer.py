"""Shows a trace in Perfetto: a browser opens ui.perfetto.dev, which fetches the file from this machine.

Source: Perfetto's `tools/open_trace_in_ui`: its page may fetch from port 9001 of this machine, and from no other.
"""

from __future__ import annotations

import shutil
import threading
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from llorch.errors import LlorchError

HOST, PORT = "127.0.0.1", 9001
VIEWER = "https://ui.perfetto.dev"
PATH = "/trace.json"
WAIT_S = 60.0
"""How long the browser may take to fetch the file."""

_TURN_S = 0.1
_CLIENT_S = 10.0


class _Fetch(BaseHTTPRequestHandler):
    """Answers with the one file, to the page of the viewer alone."""

    timeout = _CLIENT_S

    server: _Server

    def do_GET(self) -> None:
        """The file."""
        # A page elsewhere could point a name of its own at this machine: it would be another origin's host.
        if self.path != PATH or self.headers.get("Host") != self.server.host:
            self.send_error(404)
            return
        with self.server.trace.open("rb") as file:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(self.server.trace.stat().st_size))
            self.send_header("Cache-Control", "no-store")
            self._allow_viewer()
            self.end_headers()
            shutil.copyfileobj(file, self.wfile)
        self.server.is_fetched.set()

    def do_OPTIONS(self) -> None:
        """May the page fetch from this machine? Browsers ask that first."""
        self.send_response(204)
        self._allow_viewer()
        self.send_header("Access-Control-Allow-Private-Network", "true")
        self.end_headers()

    def _allow_viewer(self) -> None:
        self.send_header("Access-Control-Allow-Origin", VIEWER)
        self.send_header("Vary", "Origin")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what a command writes is its result."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    timeout = _TURN_S

    def __init__(self, trace: Path, port: int) -> None:
        super().__init__((HOST, port), _Fetch)
        self.trace = trace
        self.host = f"{HOST}:{self.server_port}"
        self.is_fetched = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a browser that hangs up is no error of ours."""


def show(trace: Path, *, wait_s: float = WAIT_S, port: int = PORT) -> None:
    """Open the viewer with a trace; returns when the viewer has it.

    Raises:
        LlorchError: there is no browser, it did not fetch the file in `wait_s`, or the port is taken.
    """
    by_hand = f"open {VIEWER} in a browser and choose {trace}"
    has_no_browser = threading.Event()
    try:
        server = _Server(trace, port)
    except OSError as error:
        raise LlorchError(f"--open: port {port} cannot be used ({error.strerror}); {by_hand}") from error

    def open_browser() -> None:  # some browsers return only when they are closed
        if not webbrowser.open(f"{VIEWER}/#!/?url=http://{server.host}{PATH}"):
            has_no_browser.set()

    with server:
        threading.Thread(target=open_browser, name="llorch-browser", daemon=True).start()
        deadline_s = time.monotonic() + wait_s
        while not server.is_fetched.is_set():
            if has_no_browser.is_set():
                raise LlorchError(f"--open: no browser could be started here; {by_hand}")
            if time.monotonic() > deadline_s:
                raise LlorchError(f"--open: no browser fetched the trace in {wait_s:.0f} s; {by_hand}")
            server.handle_request()
