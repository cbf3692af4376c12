"""OpenAI's routes of a live server, asked as a strict client would."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.support.live_server import WAIT_S, LiveServer


def whole(server: LiveServer, path: str, **body: Any) -> dict[str, Any]:
    """The answer of a request that is not streamed."""
    answer = server.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    document: dict[str, Any] = answer.json()
    return document


def fault(server: LiveServer, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """Status and error of a request that is refused."""
    answer = server.post(path, json=body)
    document = answer.json()
    assert set(document) == {"error"}, document
    assert set(document["error"]) == {"message", "type", "param", "code"}
    return answer.status_code, document["error"]


def frames(data: bytes) -> list[str]:
    """The data of each event of a stream, strictly: unnamed, one line, ended by an empty line; no comments."""
    found = []
    for frame in data.decode().split("\n\n")[:-1]:
        if frame.startswith(":"):
            continue
        assert frame.startswith("data: ")
        assert "\n" not in frame
        found.append(frame.removeprefix("data: "))
    return found


def chunks(server: LiveServer, path: str, **body: Any) -> list[dict[str, Any]]:
    """The chunks of a streamed answer, which ends with `[DONE]`; all have the same head."""
    with httpx.stream(
        "POST", f"{server.url}{path}", json={**body, "stream": True}, timeout=WAIT_S
    ) as response:
        data = response.read()
        assert response.status_code == 200, data
        assert response.headers["content-type"].startswith("text/event-stream")
    *found, done = frames(data)
    assert done == "[DONE]"
    documents = [json.loads(one) for one in found]
    heads = {
        (one["id"], one["object"], one["created"], one["model"], one["system_fingerprint"])
        for one in documents
    }
    assert len(heads) == 1
    return documents


def text_of(documents: list[dict[str, Any]], index: int = 0) -> str:
    """The text of a choice, from its chunks."""
    choices = [choice for one in documents for choice in one["choices"] if choice["index"] == index]
    pieces = [choice.get("text", choice.get("delta", {}).get("content")) for choice in choices]
    return "".join(piece for piece in pieces if piece)
