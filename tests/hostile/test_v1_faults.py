"""A fault of ours in one generation of a route that others know: an error in their shape, and nobody else's loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from llorch.engine.sampling import Sampler
from llorch.engine.service import EngineService
from llorch.server.app import create_app
from tests.support.services import do, running

SEED = 77
"""Of the request that fails."""
CHAT = [{"role": "user", "content": "Hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Hello", "max_tokens": 6},
    "/v1/chat/completions": {"messages": CHAT, "max_tokens": 6},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 6},
    "/completion": {"prompt": "Hello", "n_predict": 6},
    "/generate": {"prompt": "Hello", "max_tokens": 6},
}


def sampler_raises(patch: pytest.MonkeyPatch) -> None:
    sample = Sampler.sample

    def sample_or_fail(self: Sampler, *args: Any, **options: Any) -> Any:
        if self.params.seed == SEED:
            raise MemoryError
        return sample(self, *args, **options)

    patch.setattr(Sampler, "sample", sample_or_fail)


def logits_are_nan(patch: pytest.MonkeyPatch) -> None:
    sample = Sampler.sample

    def sample_nan(self: Sampler, logits: Any, *args: Any, **options: Any) -> Any:
        if self.params.seed == SEED:
            logits = np.full_like(logits, np.nan)
        return sample(self, logits, *args, **options)

    patch.setattr(Sampler, "sample", sample_nan)


@pytest.fixture(scope="module")
def service(tiny_model: Path) -> Iterator[EngineService]:
    service = running(tiny_model, parallel=3, max_waiting=8)
    yield service
    do(service.stop(0))


@pytest.mark.parametrize("plant", [sampler_raises, logits_are_nan])
@pytest.mark.parametrize("path", BODIES)
def test_one_request_fails_in_its_routes_shape_and_its_neighbour_gets_the_same_bits(
    path: str,
    plant: Callable[[pytest.MonkeyPatch], None],
    service: EngineService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = BODIES[path] | {"temperature": 1.5, "ignore_eos": True}
    neighbour = {"prompt": "Once", "seed": 3, "max_tokens": 40, "stream": False, "ignore_eos": True}

    async def work() -> None:
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            alone = (await client.post("/generate", json=neighbour)).json()["token_ids"]
            plant(monkeypatch)
            beside = asyncio.create_task(client.post("/generate", json=neighbour))
            whole = await client.post(path, json=body | {"seed": SEED, "stream": False})
            streamed = await client.post(path, json=body | {"seed": SEED, "stream": True})
            assert (await beside).json()["token_ids"] == alone
            assert whole.status_code == 500
            fault = whole.json()
            assert fault["message"] if path == "/generate" else fault["error"]["message"]
            assert streamed.status_code == 200
            assert "error" in streamed.text.replace("event: ", "")
            assert (await client.get("/health")).status_code == 200
            fine = await client.post(path, json=body | {"seed": 1, "stream": False})
            assert fine.status_code == 200
            assert service.n_open == 0

    do(work())
