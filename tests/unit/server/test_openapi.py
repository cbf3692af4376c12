"""What OpenAPI says about the routes is what they do."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.service import EngineService
from llorch.server.app import create_app
from llorch.server.openapi import WITHOUT_TOOLS, numbers_to
from llorch.settings import Settings
from tests.conftest import REPOSITORY
from tests.support.services import running

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
    assert set(described["paths"]["/generate"]["post"]["responses"]) == {"200", "409", "504", *POSTED}
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/responses"):
        assert set(described["paths"][path]["post"]["responses"]) == {"200", "504", *POSTED}
    assert set(described["paths"]["/cancel"]["post"]["responses"]) == {"200", "404", *POSTED}
    for path in ("/trace/start", "/trace/stop"):
        assert set(described["paths"][path]["post"]["responses"]) == {"200", "409", *POSTED}
    assert set(described["paths"]["/v1/models"]["get"]["responses"]) == {"200", "401", "403", "500", "503"}
    missing = described["paths"]["/v1/models/{model}"]["get"]["responses"]
    assert {"401", "403", "404", "500", "503"} <= set(missing)


def test_limits_of_traces_are_described(described: dict[str, Any]) -> None:
    limits = body_of(described, "/trace/start")["properties"]
    assert set(limits) == {"max_seconds", "max_steps", "operations"}
    assert limits["max_steps"]["anyOf"][0]["maximum"] == 100_000
    assert set(body_of(described, "/trace/stop")["properties"]) == {"trace_id"}


def test_generate_takes_exactly_one_of_two_prompts(described: dict[str, Any]) -> None:
    first, second = body_of(described, "/generate")["oneOf"]
    assert (first["required"], second["required"]) == (["prompt"], ["token_ids"])
    assert first["properties"]["token_ids"] == second["properties"]["prompt"] == {"type": "null"}


def test_large_numbers_are_exact(described: dict[str, Any]) -> None:
    seed = body_of(described, "/generate")["properties"]["seed"]
    assert seed["anyOf"][0]["maximum"] == 2**64 - 1
    assert body_of(described, "/v1/completions")["properties"]["seed"]["anyOf"][0]["minimum"] == -(2**63)


def test_tools_are_described_only_where_the_model_has_a_form_of_calls() -> None:
    service = running(REPOSITORY / "llorch/assets/demo.gguf")
    app = create_app(EngineService(Settings()))
    rules = [_rule_about_tools(app.openapi())]
    app.state.service = service
    rules.append(_rule_about_tools(app.openapi()))
    asyncio.run(service.stop())
    assert "properties" not in rules[0]
    assert rules[1]["properties"]["tools"]["anyOf"][1]["maxItems"] == 0
    assert "properties" not in _rule_about_tools(create_app(EngineService(Settings())).openapi())


def _rule_about_tools(described: dict[str, Any]) -> dict[str, Any]:
    rules = body_of(described, "/v1/chat/completions")["allOf"]
    (found,) = [one for rule in rules for one in rule["anyOf"] if one.get("title") == WITHOUT_TOOLS["title"]]
    assert isinstance(found, dict)
    return found


def test_token_ids_have_the_bound_of_the_model_once_it_is_known(tiny_model: Path) -> None:
    service = running(tiny_model)
    app = create_app(EngineService(Settings()))
    bounds = [_bound_of_ids(app.openapi())]
    app.state.service = service
    bounds.append(_bound_of_ids(app.openapi()))
    assert service.loaded is not None
    assert bounds == [2**31 - 1, service.loaded.config.n_vocab - 1]
    asyncio.run(service.stop(0))


def _bound_of_ids(described: dict[str, Any]) -> int:
    ids = body_of(described, "/generate")["properties"]["token_ids"]["anyOf"][0]
    several = body_of(described, "/v1/completions")["properties"]["prompt"]["oneOf"][2]["items"]["anyOf"][1]
    assert ids["items"]["maximum"] == several["items"]["maximum"]
    bound: int = ids["items"]["maximum"]
    return bound


def test_one_stop_string_may_stand_alone(described: dict[str, Any]) -> None:
    kinds = body_of(described, "/generate")["properties"]["stop"]["anyOf"][0]["anyOf"]
    assert [kind["type"] for kind in kinds] == ["string", "array"]


def test_biases_are_by_token_id(described: dict[str, Any]) -> None:
    biases = body_of(described, "/generate")["properties"]["logit_bias"]["anyOf"][0]
    assert biases["propertyNames"]["pattern"] == "^[0-9]+$"
    assert biases["maxProperties"] == 1024


@pytest.mark.parametrize("largest", [0, 1, 9, 10, 99, 100, 101, 262, 3071, 32000, 49151])
def test_numbers_up_to_the_largest_id_and_no_others_fit(largest: int) -> None:
    pattern = re.compile(f"^({numbers_to(largest)})$")
    near = {*range(300), *range(largest - 300, largest + 300), largest * 2, largest * 10, largest // 7}
    assert {i for i in near if i >= 0 and pattern.search(str(i))} == {i for i in near if 0 <= i <= largest}
    assert not pattern.search("")
    assert not pattern.search("01")


def test_bodies_of_openais_routes_may_have_more_fields(described: dict[str, Any]) -> None:
    assert body_of(described, "/v1/completions")["required"] == ["prompt"]
    assert body_of(described, "/v1/chat/completions")["required"] == ["messages"]
    assert body_of(described, "/v1/responses")["required"] == ["input"]
    assert body_of(described, "/v1/completions")["additionalProperties"] is True
    assert body_of(described, "/generate")["additionalProperties"] is False


def test_streams_are_described_by_their_events(described: dict[str, Any]) -> None:
    content = described["paths"]["/generate"]["post"]["responses"]["200"]["content"]
    assert content["text/event-stream"]["schema"]["required"] == ["data"]
