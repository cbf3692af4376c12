"""The log of a server whose clients send names that would begin a line of it, or command the terminal it is read on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.live_server import LiveServer

HOSTILE = 'x\r\n09:00:00 INFO forged\n{"level": "forged"}\x1b[2J\x7f\x9b31m\u2028\u202e'
A_LINE = re.compile(r"\d\d:\d\d:\d\d (DEBUG|INFO|WARNING|ERROR) |  ")
"""How a line of the text format begins; those of an exception are indented."""


def send_hostile_names(server: LiveServer) -> None:
    message = [{"role": "user", "content": "Hello"}]
    tool = {"type": "function", "function": {"name": HOSTILE, "parameters": {"type": "object"}}}
    bodies = {
        "/generate": {"prompt": HOSTILE, "max_tokens": 1, "stream": False, "job_id": HOSTILE, HOSTILE: 1},
        "/v1/chat/completions": {"model": HOSTILE, "messages": message, "max_tokens": 1, "user": HOSTILE},
        "/v1/completions": {"model": HOSTILE, "prompt": HOSTILE, "max_tokens": 1},
        "/v1/responses": {"model": HOSTILE, "input": HOSTILE, "tools": [tool]},
        "/v1/embeddings": {"model": HOSTILE, "input": HOSTILE},
        "/completion": {"prompt": HOSTILE, "n_predict": 1, "grammar": HOSTILE},
        "/cancel": {"job_id": HOSTILE},
    }
    for path, body in bodies.items():
        server.post(path, json=body)
    server.post("/v1/chat/completions", json={"messages": message, "tools": [tool], "tool_choice": HOSTILE})
    server.post("/v1/chat/completions", json={"messages": [{"role": HOSTILE, "content": HOSTILE}]})
    for path in ("/", "/v1/models/", "/v1/responses/", f"/{quote(HOSTILE)}/"):
        server.get(path + quote(HOSTILE), headers={"X-Request-Id": b"\x1b[2J\x9b", "User-Agent": b"\x1b[2J"})
    for head in (b"GET /\x1b[2J\x9b HTTP/1.1", b"\x1b[2J / HTTP/1.1", b"GET / HTTP/1.1\r\nHost: \x1b[2J"):
        with server.connect() as connection:
            connection.sendall(head + b"\r\n\r\n")
            connection.recv(100)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_name_of_a_client_forges_a_line_or_commands_a_terminal(log_format: str, tmp_path: Path) -> None:
    """The names that whoever runs the server has chosen do not, either."""
    flags = ("--log-format", log_format, "--log-level", "debug", "--alias", HOSTILE)
    cache = ("--prefix-cache-dir", f"/proc/{HOSTILE}")
    server = LiveServer("demo", tmp_path / "log", *flags, *cache)
    try:
        server.wait_until_ready()
        send_hostile_names(server)
        server.assert_alive()
    finally:
        assert server.stop() == 0
    lines = server.log_path.read_bytes().decode().split("\n")
    assert lines.pop() == ""
    assert len(lines) > 20
    for line in lines:
        assert line.isprintable(), line
        if log_format == "json":
            assert json.loads(line)["level"] in ("debug", "info", "warning", "error")
        else:
            assert A_LINE.match(line), line
            assert not line.startswith("09:00:00 INFO forged")
    assert any("is ready after" in line and "forged" in line for line in lines)
