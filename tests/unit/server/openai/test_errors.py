"""Errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from llorch.engine.events import ErrorEvent
from llorch.engine.service import EngineService
from llorch.errors import (
    ContextLengthError,
    EngineStoppedError,
    FieldError,
    InputError,
    QueueFullError,
    RequestError,
)
from llorch.server.app import create_app
from llorch.server.errors import GenerationFailedError, HTTPRefusalError, NotReadyError
from llorch.server.routes.openai.errors import openai_shape, renamed
from llorch.settings import Settings

BODY = FieldError("body", "JSON", "the body is not JSON")


def shaped(error: Exception) -> tuple[int, dict[str, Any]]:
    answer = openai_shape(error)
    document = json.loads(bytes(answer.body))
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    return answer.status_code, document["error"]


def test_every_fault_is_in_the_message_and_the_first_is_the_param() -> None:
    faults = [FieldError("n", "n >= 1", "n: too small"), FieldError("top_p", "<= 1", "top_p: too large")]
    assert shaped(RequestError(faults)) == (
        400,
        {
            "message": "n: too small; top_p: too large",
            "type": "invalid_request_error",
            "param": "n",
            "code": None,
        },
    )


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code"),
    [
        (ContextLengthError(9, 8), 400, "invalid_request_error", "prompt", "context_length_exceeded"),
        (InputError("wrong"), 400, "invalid_request_error", None, None),
        (HTTPRefusalError(400, BODY), 400, "invalid_request_error", None, None),
        (HTTPRefusalError(413, BODY), 413, "invalid_request_error", None, None),
        (HTTPRefusalError(415, BODY), 415, "invalid_request_error", None, None),
        (HTTPRefusalError(401, BODY), 401, "invalid_request_error", None, "invalid_api_key"),
        (HTTPRefusalError(405, BODY), 405, "invalid_request_error", None, "method_not_allowed"),
        (QueueFullError(3, 7), 503, "server_error", None, "overloaded"),
        (NotReadyError("loading"), 503, "server_error", None, "not_ready"),
        (EngineStoppedError("stopping"), 503, "server_error", None, "stopped"),
        (GenerationFailedError(ErrorEvent("internal_error", "x", False)), 500, "server_error", None, "internal_error"),
        (GenerationFailedError(ErrorEvent("stopped", "later", True)), 503, "server_error", None, "stopped"),
        (RuntimeError("a secret"), 500, "server_error", None, "internal_error"),
    ],
)  # fmt: skip
def test_each_error_has_its_status_type_and_code(
    error: Exception, status: int, kind: str, param: str | None, code: str | None
) -> None:
    found, document = shaped(error)
    assert (found, document["type"], document["param"], document["code"]) == (status, kind, param, code)
    assert "secret" not in document["message"]


def test_an_over_long_prompt_is_told_in_the_words_that_clients_look_for() -> None:
    message = shaped(ContextLengthError(9, 8))[1]["message"]
    assert "maximum context length is 8 tokens" in message
    assert "the prompt has 9" in message


def test_refusals_that_pass_say_when_to_come_back() -> None:
    assert openai_shape(QueueFullError(3, 7)).headers["Retry-After"] == "7"
    assert openai_shape(NotReadyError("loading")).headers["Retry-After"] == "2"


def test_fields_have_the_names_that_the_client_wrote() -> None:
    error = RequestError([FieldError("token_ids", "0 <= id", "token_ids: expected 0 <= id; got token_ids")])
    renamed(error, {"token_ids": "prompt"})
    assert error.errors == [FieldError("prompt", "0 <= id", "prompt: expected 0 <= id; got token_ids")]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [({}, 401, "invalid_api_key"), ({"Authorization": "Bearer sesame"}, 503, "not_ready")],
)
def test_paths_below_v1_have_this_shape(headers: dict[str, str], status: int, code: str) -> None:
    app = create_app(EngineService(Settings(api_key=SecretStr("sesame"))))  # whose model is not loaded

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/v1/models", headers=headers)

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
