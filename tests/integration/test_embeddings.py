"""`/v1/embeddings` and `/embedding`: the bits of Python's `embed`, whatever else the server computes meanwhile."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import llorch
from llorch.embedding.pooling import Pooler
from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndEvent, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.service import EngineService
from llorch.errors import NumericalError
from llorch.server.app import create_app
from llorch.settings import Settings
from tests.support.live_server import LiveServer, generate_events
from tests.support.poisoned_model import write_model_with_poison
from tests.support.services import ENDLESS, do, running, stream

TEXTS = [
    "Once upon a time",
    "There was a little girl named Lily. " * 8,
    "x",
    "The dog ran. " * 20,
    "a b c d",
    "Once upon a time",
]


@pytest.fixture(scope="module")
def stories(model_path: Callable[[str], Path]) -> Path:
    return model_path("stories260K-q8_0.gguf")


@pytest.fixture(scope="module")
def live(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Four sequences at a time, in steps of 16 rows."""
    server = LiveServer(stories, tmp_path_factory.mktemp("embeddings") / "log", "-t", "2", "-b", "16")
    yield server.wait_until_ready()
    server.assert_alive()
    assert "ERROR" not in server.log
    assert server.stop() == 0


@pytest.fixture(scope="module")
def model(stories: Path) -> Iterator[llorch.Model]:
    with llorch.load(stories, threads=1) as model:
        yield model


def embeddings(server: LiveServer, **fields: Any) -> dict[str, Any]:
    answer = server.post("/v1/embeddings", json=fields)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert [item["index"] for item in document["data"]] == list(range(len(document["data"])))
    return document


def vectors(document: dict[str, Any]) -> list[bytes]:
    return [np.array(item["embedding"], np.float32).tobytes() for item in document["data"]]


def test_an_answer_has_the_form_of_openai_and_the_bits_of_python(
    live: LiveServer, model: llorch.Model
) -> None:
    document = embeddings(live, model="any", input=TEXTS)
    assert document["object"] == "list"
    assert {item["object"] for item in document["data"]} == {"embedding"}
    assert document["model"] == model.name
    n_tokens = sum(len(model.tokenizer.encode(text)) for text in TEXTS)
    assert document["usage"] == {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    assert vectors(document) == [model.embed(text).tobytes() for text in TEXTS]


def test_base64_holds_the_same_bytes(live: LiveServer, model: llorch.Model) -> None:
    document = embeddings(live, input=TEXTS, encoding_format="base64", dimensions=64, user="me")
    found = [base64.b64decode(item["embedding"]) for item in document["data"]]
    assert found == [model.embed(text).tobytes() for text in TEXTS]


def test_an_input_is_text_or_ids_or_a_list_of_either(live: LiveServer, model: llorch.Model) -> None:
    ids = [model.tokenizer.encode(text) for text in TEXTS[:3]]
    wanted = [model.embed(text).tobytes() for text in TEXTS[:3]]
    assert vectors(embeddings(live, input=TEXTS[1])) == wanted[1:2]
    assert vectors(embeddings(live, input=ids[1])) == wanted[1:2]
    assert vectors(embeddings(live, input=ids)) == wanted
    assert vectors(embeddings(live, input=[ids[0], TEXTS[1], ids[2]])) == wanted


def test_pooling_is_the_requests_or_the_settings(
    live: LiveServer, model: llorch.Model, stories: Path, tmp_path: Path
) -> None:
    last, mean = model.embed(TEXTS[1], pooling="last").tobytes(), model.embed(TEXTS[1]).tobytes()
    assert last != mean
    assert vectors(embeddings(live, input=TEXTS[1], pooling="last")) == [last]
    server = LiveServer(stories, tmp_path / "log", "--pooling", "last", "--embeddings", "-np", "1")
    try:
        server.wait_until_ready()
        assert vectors(embeddings(server, input=TEXTS[1])) == [last]
        assert vectors(embeddings(server, input=TEXTS[:2], pooling="mean"))[1] == mean
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("path", ["/embedding", "/embeddings"])
@pytest.mark.parametrize("name", ["input", "content"])
def test_llama_servers_paths_answer_as_it_does(
    live: LiveServer, model: llorch.Model, path: str, name: str
) -> None:
    assert isinstance(live.post(path, json={name: "Once"}).json(), list)
    ids = model.tokenizer.encode("upon")
    found = live.post(path, json={name: [*TEXTS, [5, 6], ["Once", *ids]]}).json()
    assert [list(item) for item in found] == [["index", "embedding"]] * (len(TEXTS) + 2)
    assert [item["index"] for item in found] == list(range(len(TEXTS) + 2))
    mixed = [[5, 6], [*model.tokenizer.encode("Once"), *ids]]
    wanted = [*map(model.embed, TEXTS), *map(model.embed, mixed)]
    for item, vector in zip(found, wanted, strict=True):
        assert np.array(item["embedding"], np.float32).tobytes() == vector[None].tobytes()


@pytest.mark.parametrize("norm", [-1, 0, 1, 2, 3])
def test_embd_normalize_scales(live: LiveServer, model: llorch.Model, norm: int) -> None:
    (item,) = live.post("/embedding", json={"content": TEXTS[1], "embd_normalize": norm}).json()
    (vector,) = np.array(item["embedding"])
    np.testing.assert_allclose(vector / np.linalg.norm(vector), model.embed(TEXTS[1]), atol=1e-6)
    if norm > 0:
        assert np.sum(np.abs(vector) ** norm) == pytest.approx(1)
    if norm == 0:
        assert np.abs(vector).max() == pytest.approx(32760)
    if norm == -1:
        assert np.linalg.norm(vector) != pytest.approx(1)


def test_streams_beside_it_change_no_bit_of_a_vector_nor_it_any_of_theirs(
    live: LiveServer, model: llorch.Model
) -> None:
    bodies: list[dict[str, Any]] = [
        {"prompt": f"Lily {k}", "max_tokens": 300, "seed": k, "ignore_eos": True} for k in range(3)
    ]
    alone = [generate_events(live.url, **body)[-1][1]["token_ids"] for body in bodies]
    wanted = [model.embed(text).tobytes() for text in TEXTS]

    async def one(client: httpx.AsyncClient, body: dict[str, Any]) -> list[int]:
        answer = await client.post("/generate", json={**body, "stream": False})
        token_ids: list[int] = answer.json()["token_ids"]
        return token_ids

    async def work() -> None:
        async with httpx.AsyncClient(base_url=live.url, timeout=100) as client:
            beside = [asyncio.create_task(one(client, body)) for body in bodies]
            n_rounds = 0
            while n_rounds < 3 or not all(task.done() for task in beside):
                answer = await client.post("/v1/embeddings", json={"input": TEXTS})
                assert vectors(answer.json()) == wanted
                n_rounds += 1
            assert [await task for task in beside] == alone

    do(work())


def test_a_long_text_is_read_in_the_steps_of_running_answers(long_model: Path) -> None:
    """While 400 tokens are embedded, in steps of at most 16 rows, the stream beside gets a token in every step."""
    service = running(long_model, parallel=2, batch_size=16)

    async def work() -> None:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await service.submit(**ENDLESS)
            events = stream(answer)
            while not isinstance(await anext(events), TokenEvent):
                pass
            n_before = answer.timeline.n_tokens
            embedded = await client.post("/v1/embeddings", json={"input": [[5] * 400]})
            n_meanwhile = answer.timeline.n_tokens - n_before
            service.release(answer)
            assert embedded.status_code == 200
            assert n_meanwhile >= 400 // 16

    do(work())
    do(service.stop(0))


@pytest.mark.parametrize("keeps", [True, False])
def test_what_gave_way_and_is_computed_again_counts_once(tiny_model: Path, keeps: bool) -> None:
    settings = Settings(model=str(tiny_model), parallel=2, batch_size=8, threads=1, prefix_cache=keeps)
    loaded = open_configured(settings)
    ids = tuple(7 * i % 250 + 5 for i in range(120))
    try:
        vectors = []
        for gives_way in (False, True):
            engine, pooler = Engine(loaded, settings), Pooler(loaded, "mean")
            engine.add(Request("text", ids, SamplingParams(), 0, states_to=pooler))
            while gives_way and pooler.n_tokens < 70:
                engine.step()
            for sequence in list(engine._scheduler.running):
                engine._scheduler._give_way(sequence)
                assert sequence.n_computed == 0
            while engine.has_work:
                engine.step()
            assert engine.snapshot().n_preempted == gives_way
            assert pooler.n_tokens == len(ids)
            vectors.append(pooler.vector().tobytes())
        assert vectors[0] == vectors[1]
    finally:
        loaded.close()


def test_a_text_whose_beginning_is_in_the_cache_is_read_whole(long_model: Path) -> None:
    service = running(long_model)
    loaded = service.loaded
    assert loaded is not None

    async def vector(ids: list[int]) -> bytes:
        pooler = Pooler(loaded, "mean")
        submission = await service.submit(token_ids=ids, max_tokens=0, options={"states_to": pooler})
        *_, end = [event async for event in stream(submission)]
        assert isinstance(end, EndEvent)
        assert (end.usage.prompt_tokens, end.usage.cached_tokens) == (len(ids), 0)
        assert pooler.n_tokens == len(ids)
        return pooler.vector().tobytes()

    async def generate(ids: list[int]) -> int:
        submission = await service.submit(token_ids=ids, max_tokens=1, ignore_eos=True)
        *_, end = [event async for event in stream(submission)]
        assert isinstance(end, EndEvent)
        return end.usage.cached_tokens

    async def work() -> None:
        ids = [i % 250 + 5 for i in range(200)]
        first = await vector(ids)
        assert await generate(ids) > 0, "what a text has left in the cache serves others"
        assert await vector(ids) == first

    do(work())
    do(service.stop(0))


def test_an_error_in_one_vector_ends_the_request_and_nothing_else(
    service_with_poison: tuple[EngineService, int],
) -> None:
    service, poison = service_with_poison

    async def work() -> None:
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            fine = {"token_ids": [5, 6], "max_tokens": 40, "seed": 1, "stream": False, "ignore_eos": True}
            alone = (await client.post("/generate", json=fine)).json()["token_ids"]
            beside = asyncio.create_task(client.post("/generate", json=fine))
            answer = await client.post("/v1/embeddings", json={"input": [[5], [6, poison, 7], [8]]})
            assert answer.status_code == 500
            assert answer.json()["error"]["code"] == "numerical_error"
            llamas = await client.post("/embedding", json={"input": [[6, poison, 7]]})
            assert (llamas.status_code, llamas.json()["error"]["type"]) == (500, "server_error")
            assert (await beside).json()["token_ids"] == alone
            assert (await client.post("/v1/embeddings", json={"input": [5]})).status_code == 200
            assert service.n_open == 0

    do(work())


@pytest.fixture
def service_with_poison(tmp_path: Path) -> Iterator[tuple[EngineService, int]]:
    write_model_with_poison(tmp_path / "model.gguf", 99)
    service = running(tmp_path / "model.gguf", parallel=3)
    yield service, 99
    do(service.stop(0))


def test_python_says_that_a_vector_is_unusable(tmp_path: Path) -> None:
    write_model_with_poison(tmp_path / "model.gguf", 99)
    with llorch.load(tmp_path / "model.gguf", threads=1) as model:
        with pytest.raises(NumericalError, match="not finite"):
            model.embed([5, 99, 6])
        assert np.isfinite(model.embed([5, 6])).all()
