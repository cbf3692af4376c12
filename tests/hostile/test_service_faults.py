"""Faults in the engine of a service: its client gets an error, all others their text, and the service goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llorch.engine.events import ErrorEvent
from llorch.engine.service import EngineService
from llorch.server.app import create_app
from tests.support.engine_faults import BAD, PLANTS, Plant, begin_fails, request
from tests.support.services import do, end_of, events_of, running

OTHERS = ("a", "c", "d")


@pytest.fixture
def service(tiny_model: Path) -> Iterator[EngineService]:
    service = running(tiny_model, parallel=3, max_waiting=8)
    yield service
    do(service.stop(0))


def fields_of(job_id: str) -> dict[str, Any]:
    """The arguments of `submit` for the request that the faults know."""
    whole = request(job_id)
    names = ("job_id", "token_ids", "params", "max_tokens", "ignore_eos")
    return {"prompt": None} | {name: getattr(whole, name) for name in names}


def plant_into(service: EngineService, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    session = service._thread.session
    assert session is not None
    plant(session._engine, monkeypatch)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_the_client_at_fault_gets_an_error_event_and_the_others_their_text(
    plant: Plant, service: EngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        alone = {job_id: (await end_of(service, **fields_of(job_id))).token_ids for job_id in OTHERS}
        plant_into(service, plant, monkeypatch)
        bad = asyncio.create_task(events_of(service, **fields_of(BAD)))
        others = [await end_of(service, **fields_of(job_id)) for job_id in OTHERS]
        assert {end.job_id: end.token_ids for end in others} == alone
        error = (await bad)[-1]
        assert isinstance(error, ErrorEvent)
        assert (error.code, error.retriable) == ("internal_error", False)
        monkeypatch.undo()
        assert await end_of(service, **fields_of(BAD))
        assert (service.stage, service.n_open) == ("ready", 0)

    do(work())


def test_over_http_the_error_is_a_500_or_the_last_event_and_health_stays(
    service: EngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_into(service, PLANTS[0], monkeypatch)
    body = {"prompt": "Hello", "max_tokens": 3, "temperature": 0}

    async def work() -> None:
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            failed = await client.post("/generate", json={**body, "job_id": BAD, "stream": False})
            assert failed.status_code == 500
            assert (failed.json()["code"], failed.json()["retriable"]) == ("internal_error", False)
            streamed = await client.post("/generate", json={**body, "job_id": BAD})
            assert streamed.status_code == 200
            assert "event: error" in streamed.text
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/ready")).status_code == 200
            fine = await client.post("/generate", json={**body, "stream": False})
            assert (fine.status_code, len(fine.json()["token_ids"])) == (200, 3)
            page = (await client.get("/metrics")).text
            assert 'llorch_generations_total{finish_reason="error"} 2.0' in page
            assert 'llorch_generations_total{finish_reason="length"} 1.0' in page
            assert 'llorch_generation_errors_total{code="internal_error"} 2.0' in page

    do(work())


def test_a_request_whose_check_fails_is_an_answer_and_frees_its_place(
    service: EngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_into(service, begin_fails, monkeypatch)

    async def work() -> None:
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await service.submit(**fields_of(BAD))
        assert service.n_open == 0
        assert await end_of(service, **fields_of("a"))

    do(work())


EXTREMES: list[dict[str, Any]] = [
    {"repetition_penalty": 1e-45},
    {"repetition_penalty": 5e-324, "temperature": 0},
    {"repetition_penalty": 2, "frequency_penalty": -2, "presence_penalty": -2, "penalty_last_n": -1},
    {"temperature": 1e-45, "top_p": 5e-324, "min_p": 5e-324, "top_k": 0},
    {"temperature": 2, "top_p": 0, "min_p": 1, "top_k": 2**31 - 1},
    {"temperature": 1e-6, "top_p": 1 - 1e-16, "min_p": 1e-45, "logit_bias": {"5": 100, "6": -100}},
    {"logit_bias": {str(i): -100 for i in range(320)}, "ignore_eos": True, "penalty_last_n": 2**31 - 1},
]


@pytest.mark.parametrize("fields", EXTREMES, ids=str)
def test_every_corner_of_the_documented_ranges_gives_tokens_over_http(
    fields: dict[str, Any], service: EngineService
) -> None:
    body = {"prompt": "Hello", "max_tokens": 5, "stream": False, "seed": 3, "ignore_eos": True, **fields}

    async def work() -> None:
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post("/generate", json=body)
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["token_ids"]) == 5
            refused = await client.post("/generate", json={**body, "repetition_penalty": 0})
            assert refused.status_code == 400
            assert refused.json()["errors"][0]["field"] == "repetition_penalty"

    do(work())
