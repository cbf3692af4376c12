"""Who may ask for embeddings, for how many, for how long, and what is left when the client does not wait."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llorch.engine.events import TokenEvent
from llorch.engine.service import EngineService
from llorch.errors import QueueFullError
from llorch.server.app import create_app
from llorch.server.embeddings import MAX_INPUTS
from tests.support.live_server import WAIT_S, LiveServer, wait_until
from tests.support.metrics import families_of, values_of
from tests.support.raw_http import connect, request, serving
from tests.support.services import ENDLESS, do, running, stream, until

PATHS = ("/v1/embeddings", "/embedding")
LONG = [5] * 50_000


@pytest.fixture(scope="module")
def service(long_model: Path) -> Iterator[EngineService]:
    service = running(long_model, api_key="sesame", cors_origins=("https://chat.example",))
    yield service
    asyncio.run(service.stop(0))


@pytest.fixture(scope="module")
def url(service: EngineService) -> Iterator[str]:
    with serving(create_app(service)) as port:
        yield f"http://127.0.0.1:{port}"


def post(url: str, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    content = json.dumps(body)  # ASCII, as JSON can spell lone surrogates
    headers = {"Content-Type": "application/json", "X-Api-Key": "sesame", **headers}
    return httpx.post(url + path, content=content, headers=headers, timeout=WAIT_S)


@pytest.mark.parametrize("path", PATHS)
def test_the_key_is_asked_for_and_other_origins_read_what_they_may(url: str, path: str) -> None:
    answer = post(url, path, {"input": "a"}, **{"X-Api-Key": "tahini"})
    assert answer.status_code == 401
    assert answer.json()["error"]["message"]
    origin = "https://chat.example"
    assert post(url, path, {"input": "a"}, Origin=origin).headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in post(url, path, {"input": "a"}, Origin="https://x.y").headers


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input": ""}, "input: expected text, token ids, or a list of up to 2048"),
        ({"input": []}, "got a list of 0"),
        ({"input": [[]]}, "[0] is a list of 0"),
        ({"input": ["a", ""]}, "[1] is a string of 0 characters"),
        ({"input": {"a": 1}}, "input: expected text"),
        ({"input": [1.5]}, "input: expected text"),
        ({"input": [-1]}, "input: expected text"),
        ({"input": ["a", "\ud800"]}, "[1] is"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, f"got {MAX_INPUTS + 1} prompts"),
        ({"input": "a" * 40_000}, "input: expected 1 <= characters <= 32768"),
        (
            {"input": ["a", [10**6]]},
            "input[1]: expected token ids, 0 <= id < 320, at least one; got 1 of 1 wrong",
        ),
        ({}, "input is required"),
        (
            {"input": "a", "dimensions": 63},
            "dimensions: expected 64, the size of this model's vectors; got 63",
        ),
        ({"input": "a", "dimensions": 0}, "dimensions >= 1"),
        ({"input": "a", "encoding_format": "hex"}, '"float" or "base64"'),
        ({"input": "a", "pooling": "cls"}, '"mean" or "last"'),
        ({"input": "a", "model": 5}, "model: expected a string"),
        ({"input": "a", "timeout": 0}, "timeout: expected a number"),
    ],
)
def test_what_cannot_be_embedded_is_refused_in_words(url: str, body: dict[str, Any], words: str) -> None:
    answer = post(url, "/v1/embeddings", body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].partition("[")[0] in {"input", *body}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "give the text as input, or as content"),
        ({"content": []}, "content: expected 1 <= prompts <= 2048; got 0"),
        ({"input": [[]]}, "input: expected token ids, 0 <= id < 320, at least one; got none"),
        ({"input": ["a", True]}, "input[1]: expected a string"),
        ({"content": ["a", {"prompt_string": "b", "multimodal_data": ["x"]}]}, "llorch does not take"),
        ({"content": ["a"] * (MAX_INPUTS + 1)}, "prompts <= 2048"),
        ({"content": "a", "embd_normalize": -2}, "embd_normalize: expected an integer"),
        ({"content": "a", "encoding_format": "hex"}, '"float" or "base64"'),
    ],
)
def test_llama_servers_path_refuses_in_its_shape(url: str, body: dict[str, Any], words: str) -> None:
    answer = post(url, "/embedding", body)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_text_that_is_too_long_is_named_with_both_sizes_and_nothing_is_computed(
    url: str, service: EngineService
) -> None:
    n_steps = service.steps.step_s.n
    body = {"input": [[5, 6], [5] * 65_537]}
    error = post(url, "/v1/embeddings", body).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "maximum context length is 65536 tokens; input[1] has 65537" in error["message"]
    answer = post(url, "/embedding", body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["n_prompt_tokens"], error["n_ctx"]) == (
        "exceed_context_size_error",
        65_537,
        65_536,
    )
    assert service.steps.step_s.n == n_steps
    assert service.n_open == 0


def test_as_many_inputs_as_there_may_be_are_one_generation_each_and_one_line_of_the_log(
    url: str, service: EngineService, caplog: pytest.LogCaptureFixture
) -> None:
    before = scrape_text(url)
    body = {"input": [[5 + i % 300] for i in range(MAX_INPUTS)], "encoding_format": "base64"}
    with caplog.at_level(logging.INFO, logger="llorch"):
        answer = post(url, "/v1/embeddings", body, **{"X-Request-Id": "r-many"})
        for _ in wait_until(WAIT_S):  # the lines follow the answer
            if "POST /v1/embeddings 200" in caplog.text:
                break
    assert len(answer.json()["data"]) == answer.json()["usage"]["prompt_tokens"] == MAX_INPUTS
    lines = [record for record in caplog.records if record.levelno >= logging.INFO]
    own, http = [record for record in lines if "embd-" in str(getattr(record, "job_id", ""))]
    assert f"embedded, {MAX_INPUTS} of {MAX_INPUTS} texts, {MAX_INPUTS} tokens" in own.getMessage()
    assert getattr(http, "job_id") == getattr(own, "job_id")  # noqa: B009 (a record's own attributes have types)
    grown = scrape_text(url)
    name = 'llorch_generations_total{finish_reason="length"}'
    assert grown[name] - before[name] == MAX_INPUTS
    assert service.n_open == 0


def scrape_text(url: str) -> dict[str, float]:
    headers = {"X-Api-Key": "sesame", "Accept": "text/plain"}
    answer = httpx.get(f"{url}/metrics", headers=headers, timeout=WAIT_S)
    return values_of(families_of(answer.text, answer.headers["content-type"]))


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_leaves_ends_what_is_computed(
    url: str, service: EngineService, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="llorch"):
        n_steps = service.steps.step_s.n
        content = json.dumps({"input": [LONG] * 5}).encode()
        headers = ("Content-Type: application/json", "X-Api-Key: sesame", f"Content-Length: {len(content)}")
        with connect(int(url.rpartition(":")[2])) as client:
            client.sendall(request("POST", path, *headers, body=content))
            assert any(
                service.steps.step_s.n > n_steps for _ in wait_until(WAIT_S)
            )  # the first is being read
        for _ in wait_until(WAIT_S):
            if not service.n_open and "client left" in caplog.text:
                break
    assert service.n_open == 0
    assert "client left, 0 of 5 texts, 250000 tokens" in caplog.text
    assert post(url, path, {"input": "a"}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_request_whose_time_is_over_is_a_504(url: str, service: EngineService, path: str) -> None:
    for timeout in ({"timeout": 0.3}, {"timeout": 1e-6}):
        answer = post(url, path, {"input": [LONG] * 3, **timeout})
        assert answer.status_code == 504, answer.text
        assert "time was over before its vectors were computed" in answer.text
    assert post(url, path, {"input": LONG}, **{"X-Request-Timeout": "0.3"}).status_code == 504
    for _ in wait_until(WAIT_S):
        if not service.n_open:
            break
    assert service.n_open == 0


def test_a_full_line_refuses_but_a_request_that_has_begun_goes_on(service: EngineService) -> None:
    async def work() -> None:
        places = service.reserve([None] * 5, owner="a")  # two may run, three may wait
        with pytest.raises(QueueFullError):
            service.reserve(["next"], owner="a")
        places += service.reserve(["next"], owner="a", has_begun=True)
        for place in places:
            service.withdraw(place)
        assert service.n_open == 0

    do(work())


def test_a_server_that_stops_says_so(long_model: Path) -> None:
    service = running(long_model)

    async def work() -> None:
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            asked = asyncio.create_task(client.post("/v1/embeddings", json={"input": [LONG]}))
            await until(lambda: service.n_open == 1)
            await service.stop(0)
            answer = await asked
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] in ("aborted", "engine_stopped")
            assert (await client.post("/v1/embeddings", json={"input": "a"})).status_code == 503

    do(work())


def test_a_server_that_stops_lets_what_has_begun_end(long_model: Path) -> None:
    service = running(long_model)

    async def work() -> None:
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            body = {"input": [[5] * 2000] * 4}
            asked = asyncio.create_task(client.post("/v1/embeddings", json=body))
            await until(lambda: service.n_open == 2)  # the first is computed, and the next has a place
            stopping = asyncio.create_task(service.stop(60))
            await until(lambda: service.stage == "stopping")
            assert (await client.post("/v1/embeddings", json={"input": "a"})).status_code == 503
            assert (await asked).status_code == 200
            await stopping

    do(work())


def test_a_stream_of_another_owner_begins_while_texts_are_computed(long_model: Path) -> None:
    """One sequence is left for others, and long texts do not keep a stream from its first token."""
    service = running(long_model, parallel=2, max_waiting=8)

    async def work() -> None:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            body = {"input": [[5] * 20_000] * 4}
            asked = asyncio.create_task(client.post("/v1/embeddings", json=body))
            await until(lambda: service.n_open == 2)
            answer = await service.submit(**ENDLESS)
            async for event in stream(answer):
                if isinstance(event, TokenEvent) and event.i == 20:
                    break
            assert not asked.done()
            service.release(answer)
            asked.cancel()

    do(work())
    do(service.stop(0))


def test_the_documentation_of_the_server_has_the_routes(server: LiveServer) -> None:
    page = server.get("/docs").text
    assert all(path in page for path in PATHS)
