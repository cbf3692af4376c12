"""Fetching the trace of a running server, as `llorch trace --server` does."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from llorch.errors import InputError, LlorchError

TIMEOUT_S = 600.0
"""A server may be busy with a long step, and makes the file with what its generations leave."""

MAX_BYTES = 4 << 30


class ServerTraceError(LlorchError):
    """A server refused the trace, or was lost."""


def fetch_trace(
    url: str, key: str | None, seconds: float, sleep: Callable[[float], None] = time.sleep
) -> bytes:
    """Have a server take a trace for `seconds`; the file.

    Args:
        url: of the server: `http://localhost:8080`.
        key: an admin key of it.
        seconds: for so long at most.
        sleep: waits meanwhile; where it is interrupted, the trace is ended and let go of.

    Raises:
        InputError: `url` is none.
        ServerTraceError: the server refuses, or cannot be reached.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--server: expected http://HOST:PORT or https://HOST:PORT, got {url}")
    begun = json.loads(_post(url, key, "/trace/start", {"max_seconds": seconds}))
    named = {"trace_id": begun["trace_id"]}
    try:
        sleep(seconds)
    except BaseException:
        _post(url, key, "/trace/stop", named)
        raise
    return _post(url, key, "/trace/stop", named)


def _post(url: str, key: str | None, path: str, body: dict[str, Any]) -> bytes:
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    address = url.rstrip("/") + path
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read(MAX_BYTES)
            return content
    except urllib.error.HTTPError as error:
        raise ServerTraceError(f"{address}: {error.code}: {_words(error)}") from None
    except (OSError, ValueError) as error:  # not reached, or broken off
        reason = getattr(error, "reason", None) or error
        raise ServerTraceError(f"{address}: {reason}") from None


def _words(error: urllib.error.HTTPError) -> str:
    """What a server says against a request."""
    try:
        content = json.loads(error.read(1 << 16))
        faults = content.get("errors")
        return "; ".join(f["message"] for f in faults) if faults else str(content["message"])
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return str(error.reason)
