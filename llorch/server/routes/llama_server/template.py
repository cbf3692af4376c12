"""`POST /apply-template`: the prompt that messages become, as text."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from llorch.chat.messages import checked_messages
from llorch.engine.service import EngineService
from llorch.errors import FieldError, RequestError
from llorch.fields.field import Field
from llorch.fields.kinds import BOOLEAN, Kind
from llorch.open_model import OpenModel
from llorch.server.body import check_fields, object_schema, read_json_object
from llorch.server.openapi import json_body, properties
from llorch.server.ready import ready_model
from llorch.server.routes.llama_server.descriptions import REFUSALS, answer

router = APIRouter(tags=["llama-server"])

_OBJECT = Kind(dict[str, Any], "an object")
_KNOWN = {
    field.name: field
    for field in (
        Field("add_generation_prompt", BOOLEAN, True, words="begin the answer"),
        Field(
            "tools",
            Kind(list[dict[str, Any]], "a list of objects"),
            None,
            words="functions, as OpenAI has them",
        ),
        Field("chat_template_kwargs", _OBJECT, None, words="variables of the template"),
    )
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"enum": ["system", "user", "assistant"]},
        "content": {"type": "string"},
    },
    "required": ["role", "content"],
}


def _schema() -> dict[str, Any]:
    schema = object_schema(_KNOWN)
    schema["properties"]["messages"] = {"type": "array", "minItems": 1, "items": _MESSAGE}
    return {**schema, "required": ["messages"], "additionalProperties": True}


@router.post(
    "/apply-template",
    summary="Messages to a prompt",
    responses=answer(properties(prompt="string")) | REFUSALS,
    openapi_extra=json_body(_schema()),
)
async def apply_template(request: Request) -> dict[str, str]:
    """The text that the model would continue; `POST /completion` takes it as it is."""
    service: EngineService = request.app.state.service
    body = await read_json_object(request, service.settings.max_body_bytes)
    loaded = ready_model(service)
    return {"prompt": await asyncio.to_thread(_rendered, loaded, body)}


def _rendered(loaded: OpenModel, body: dict[str, Any]) -> str:
    faults: list[FieldError] = []
    messages: list[dict[str, Any]] = []
    try:
        messages = checked_messages(body.get("messages"))
    except RequestError as error:
        faults = error.errors
    given = check_fields(body, _KNOWN, more_faults=faults, ignores_unknown=True)
    return loaded.chat_template.render(
        messages,
        tools=given.get("tools"),
        add_generation_prompt=given.get("add_generation_prompt", True),
        variables=given.get("chat_template_kwargs"),
    )
