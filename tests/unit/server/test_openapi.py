"""What OpenAPI says about the routes is what they do."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.engine.service import EngineService
from llorch.server.app import create_app
from llorch.settings import Settings

POSTED = {"400", "401", "403", "408", "413", "415", "500", "503"}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return create_app(EngineService(Settings())).openapi()


def body_of(described: dict[str, Any], path: str) -> dict[str, Any]:
    schema: dict[str, Any] = described["paths"][path]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    return schema


def test_every_status_is_there(described: dict[str, Any]) -> None:
    for path in ("/generate", "/v1/completions", "/v1/chat/completions"):
        assert set(described["paths"][path]["post"]["responses"]) == {"200", *POSTED}
    assert set(described["paths"]["/cancel"]["post"]["responses"]) == {"200", "404", *POSTED}
    assert set(described["paths"]["/v1/models"]["get"]["responses"]) == {"200", "401", "403", "500", "503"}
    missing = described["paths"]["/v1/models/{model}"]["get"]["responses"]
    assert {"401", "403", "404", "500", "503"} <= set(missing)


def test_generate_takes_exactly_one_of_two_prompts(described: dict[str, Any]) -> None:
    first, second = body_of(described, "/generate")["oneOf"]
    assert (first["required"], second["required"]) == (["prompt"], ["token_ids"])
    assert first["properties"]["token_ids"] == second["properties"]["prompt"] == {"type": "null"}


def test_large_numbers_are_exact(described: dict[str, Any]) -> None:
    seed = body_of(described, "/generate")["properties"]["seed"]
    assert seed["anyOf"][0]["maximum"] == 2**64 - 1
    assert body_of(described, "/v1/completions")["properties"]["seed"]["anyOf"][0]["minimum"] == -(2**63)


def test_one_stop_string_may_stand_alone(described: dict[str, Any]) -> None:
    kinds = body_of(described, "/generate")["properties"]["stop"]["anyOf"][0]["anyOf"]
    assert [kind["type"] for kind in kinds] == ["string", "array"]


def test_biases_are_by_token_id(described: dict[str, Any]) -> None:
    biases = body_of(described, "/generate")["properties"]["logit_bias"]["anyOf"][0]
    assert biases["propertyNames"] == {"pattern": "^[0-9]{1,9}$"}
    assert biases["maxProperties"] == 1024


def test_bodies_of_openais_routes_may_have_more_fields(described: dict[str, Any]) -> None:
    assert body_of(described, "/v1/completions")["required"] == ["prompt"]
    assert body_of(described, "/v1/chat/completions")["required"] == ["messages"]
    assert body_of(described, "/v1/completions")["additionalProperties"] is True
    assert body_of(described, "/generate")["additionalProperties"] is False


def test_streams_are_described_by_their_events(described: dict[str, Any]) -> None:
    content = described["paths"]["/generate"]["post"]["responses"]["200"]["content"]
    assert content["text/event-stream"]["schema"]["required"] == ["data"]
