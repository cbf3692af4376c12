"""Requests to llorch on Ray Serve, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.live_server import NO_TLS, WAIT_S, events, wait_until

LONG = {"prompt": "Once", "max_tokens": 400, "seed": 3, "ignore_eos": True}
"""Takes some seconds, so that things can happen meanwhile."""


@dataclass
class Answer:
    """An answer that may still be coming.

    Attributes:
        status: of the response; 0 before it.
        replica: unique id of the replica that gives it.
        events: names and data of the events so far.
    """

    status: int = 0
    replica: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def last(self) -> tuple[str, dict[str, Any]]:
        return self.events[-1]

    @property
    def text(self) -> str:
        """The whole text of an answer that came to its end."""
        name, data = self.last
        assert name == "end", data
        return str(data["text"])


class Clients:
    """Streams that are read at the same time, each by a thread.

    Args:
        url: of the proxy.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._threads = ThreadPoolExecutor(32)

    def start(self, **body: Any) -> tuple[Answer, Future[Answer]]:
        """An answer of `POST /generate`, at once, and its end."""
        answer = Answer()
        return answer, self._threads.submit(self._read, answer, body)

    def _read(self, answer: Answer, body: dict[str, Any]) -> Answer:
        with httpx.stream(
            "POST", f"{self._url}/generate", json=body, timeout=WAIT_S, verify=NO_TLS
        ) as response:
            answer.headers = dict(response.headers)
            answer.replica = response.headers.get("x-llorch-replica", "")
            answer.status = response.status_code
            if answer.status != 200:
                answer.events.append(("refused", {"body": response.read().decode()}))
                return answer
            for event in events(response.iter_lines()):
                answer.events.append(event)
        return answer

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    assert any(condition() for _ in wait_until(WAIT_S))


def all_of(streams: Sequence[tuple[Answer, Future[Answer]]]) -> list[Answer]:
    """The answers, once all are at their ends."""
    return [future.result(WAIT_S) for _, future in streams]


def completion_on_each(url: str, replicas: Sequence[str], **body: Any) -> dict[str, Any]:
    """What `POST /v1/completions` answers, by replica: the choices, without names and times."""
    found: dict[str, Any] = {}

    def ask() -> httpx.Response:
        return httpx.post(f"{url}/v1/completions", json=body, timeout=WAIT_S, verify=NO_TLS)

    with ThreadPoolExecutor(2 * len(replicas)) as threads:
        for _ in range(20):
            for future in [threads.submit(ask) for _ in range(2 * len(replicas))]:
                response = future.result(WAIT_S)
                assert response.status_code == 200, response.text
                found[response.headers["x-llorch-replica"]] = response.json()["choices"]
            if set(found) >= set(replicas):
                return found
    raise AssertionError(f"only {sorted(found)} of {sorted(replicas)} answered")
