"""The deadline of a request for several choices: each that has a token keeps it, and one without fails the answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llorch.engine.service import EngineService
from llorch.server.app import create_app
from tests.support.live_server import WAIT_S, wait_until
from tests.support.raw_http import serving
from tests.support.services import running

BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Hello"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
}
ENDLESS: dict[str, Any] = {"max_tokens": 60_000, "ignore_eos": True, "stream": True}

N_SIDE = 2
"""Sequences that are computed at a time."""


@pytest.fixture(scope="module")
def url(long_model: Path) -> Iterator[str]:
    service: EngineService = running(long_model, chat_template="chatml", parallel=N_SIDE)
    with serving(create_app(service)) as port:
        yield f"http://127.0.0.1:{port}"
    asyncio.run(service.stop(0))


def streamed(url: str, path: str, n: int, **more: Any) -> tuple[list[Any], bool]:
    """The chunks of a stream, and whether it ended with `[DONE]`."""
    answer = httpx.post(url + path, json={**BODIES[path], **ENDLESS, "n": n, **more}, timeout=WAIT_S)
    assert answer.status_code == 200
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"], data[-1] == "[DONE]"


def cut_short(url: str, path: str, n: int, **more: Any) -> tuple[list[Any], bool]:
    """The stream as above with the shortest limit in which a busy machine computes a first token of each that runs."""
    for doublings in range(9):
        found = streamed(url, path, n, timeout=0.3 * 2**doublings, **more)
        if len(reasons(found[0])) == N_SIDE:
            break
    return found


def reasons(chunks: list[Any]) -> dict[int, str]:
    """The finish reasons of the choices that have one."""
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    return {one["index"]: one["finish_reason"] for one in choices if one["finish_reason"]}


def outcomes(caplog: pytest.LogCaptureFixture, answer_id: str, n: int) -> list[str]:
    """How the log says that the choices ended, once it does."""
    found: dict[str, str] = {}
    for _ in wait_until(WAIT_S):
        records = [record for record in caplog.records if hasattr(record, "outcome")]
        found = {vars(one)["job_id"]: vars(one)["outcome"] for one in records}
        if all(f"{answer_id}.{k}" in found for k in range(n)):
            break
    return [found[f"{answer_id}.{k}"] for k in range(n)]


@pytest.mark.parametrize("path", BODIES)
def test_choices_that_run_end_with_their_text(url: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="llorch"):
        chunks, is_done = cut_short(url, path, N_SIDE, stream_options={"include_usage": True})
        assert outcomes(caplog, chunks[0]["id"], 2) == ["timeout"] * 2
    assert (reasons(chunks), is_done) == ({0: "length", 1: "length"}, True)
    assert chunks[-1]["usage"]["completion_tokens"] > 1


@pytest.mark.parametrize("path", BODIES)
def test_a_choice_that_never_began_fails_the_stream_behind_the_ends_of_the_others(
    url: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="llorch"):
        chunks, is_done = cut_short(url, path, N_SIDE + 2)
        assert outcomes(caplog, chunks[0]["id"], 4) == ["timeout"] * 4
    assert (reasons(chunks), is_done) == ({0: "length", 1: "length"}, False)
    assert chunks[-1]["error"]["code"] == "timeout"
    assert "client left" not in caplog.text
