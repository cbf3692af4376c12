"""`POST /apply-template`: the prompt that messages become, as text."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from llorch.engine.service import EngineService
from llorch.open_model import OpenModel
from llorch.server.openapi import json_body, properties
from llorch.server.ready import ready_model
from llorch.server.routes.llama_server.descriptions import REFUSALS, answer
from llorch.server.routes.openai.chat import (
    PROMPT_FIELDS,
    check_structure,
    read_prompt,
    template_arguments,
)
from llorch.server.routes.openai.schemas import prompt_schema

router = APIRouter(tags=["llama-server"])


@router.post(
    "/apply-template",
    summary="Messages to a prompt",
    responses=answer(properties(prompt="string")) | REFUSALS,
    openapi_extra=json_body(prompt_schema(PROMPT_FIELDS)),
)
async def apply_template(request: Request) -> dict[str, str]:
    """The text that `/chat/completions` would have continued; `POST /completion` takes it as it is."""
    service: EngineService = request.app.state.service
    given = await read_prompt(request, service.settings.max_body_bytes)
    loaded = ready_model(service)
    await check_structure(given, loaded)
    return {"prompt": await asyncio.to_thread(_rendered, given, loaded)}


def _rendered(given: Mapping[str, Any], loaded: OpenModel) -> str:
    return loaded.chat_template.render(**template_arguments(given, loaded))
