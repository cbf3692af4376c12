"""Bodies that OpenAI's routes refuse or survive: every field null, of a wrong type, at its limits and past them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llorch.server.routes.openai.fields import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    REFUSED_IN_CHATS,
    REFUSED_IN_COMPLETIONS,
)
from llorch.server.routes.openai.responses.fields import REFUSED as REFUSED_IN_RESPONSES
from llorch.server.routes.openai.responses.fields import RESPONSES
from tests.support.live_server import WAIT_S, LiveServer

ODD_VALUES: list[object] = [
    False, 0, -1, 2**64, -(10**30), 0.5, 1e308, "", "text", "\ud800", "x" * 5000, [], [[]], [None], [0], ["a"] * 200,
    [{}], {}, {"": None}, {"0": 0}, {"type": []},
]  # fmt: skip
VALID: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Hi", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 1},
    "/v1/embeddings": {"input": "Hi"},
}
FIELDS = {
    "/v1/completions": [*COMPLETION, *REFUSED_IN_COMPLETIONS, "best_of", "user", "metadata"],
    "/v1/chat/completions": [
        *CHAT, *REFUSED_IN_CHATS, "messages", "tools", "tool_choice", "response_format", "user", "parallel_tool_calls",
    ],
    "/v1/responses": [
        *RESPONSES, *REFUSED_IN_RESPONSES, "previous_response_id", "conversation", "include", "reasoning", "store",
        "user",
    ],
    "/v1/embeddings": [*EMBEDDING, "user"],
}  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    server = LiveServer("demo", tmp_path_factory.mktemp("demo") / "log", "--ctx-size", "64")
    yield server.wait_until_ready()
    server.assert_alive()
    assert "ERROR" not in server.log
    assert server.stop() == 0


@pytest.fixture(scope="module")
def client(demo: LiveServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url, timeout=WAIT_S) as client:
        yield client


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    """With ASCII alone, as JSON can spell lone surrogates."""
    headers = {"Content-Type": "application/json"}
    return client.post(path, content=json.dumps(body), headers=headers)


def check(answer: httpx.Response) -> None:
    """It is an answer, or a refusal in OpenAI's shape that repeats nothing."""
    if answer.status_code == 200:
        return
    assert answer.status_code in (400, 413, 415), answer.text
    document = answer.json()
    assert set(document) == {"error"}
    assert document["error"]["type"] == "invalid_request_error"
    assert document["error"]["message"]
    assert "xxxxxxxx" not in answer.text


@pytest.mark.parametrize("path", VALID)
def test_odd_values_of_every_field_are_answered_or_refused(client: httpx.Client, path: str) -> None:
    for name in FIELDS[path]:
        for value in ODD_VALUES:
            check(post(client, path, {**VALID[path], name: value}))


@pytest.mark.parametrize("path", VALID)
def test_null_everywhere_is_as_if_nothing_were_said(client: httpx.Client, path: str) -> None:
    body = {**dict.fromkeys(FIELDS[path]), **VALID[path]}
    assert client.post(path, json=body).status_code == 200


@pytest.mark.parametrize("path", VALID)
@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"5", b'"text"', b"{", b'{"a":', b"\xff\xfe", b'{"temperature": NaN}',
        b'{"temperature": 1e999, "prompt": "a"}', b'{"n": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"a":' * 50_000,
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(client: httpx.Client, path: str, body: bytes) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    check(answer)


def test_other_content_types_and_sizes_have_statuses_of_their_own(client: httpx.Client) -> None:
    for path in VALID:
        assert client.post(path, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
        big = client.post(path, json={**VALID[path], "user": "x" * (1 << 20)})
        assert big.status_code == 413
        check(big)


def test_a_name_of_a_field_may_be_anything(client: httpx.Client) -> None:
    for path, body in VALID.items():
        for name in ("", "\ud800", "x" * 9999, "__class__", "\x00", "prompt\n"):
            assert post(client, path, {**body, name: math.pi}).status_code == 200
