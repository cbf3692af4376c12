"""`POST /v1/messages` and `/v1/messages/count_tokens`: the next message of a chat, and how many tokens it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from llorch.engine.service import EngineService
from llorch.errors import RequestError
from llorch.fields.field import Field
from llorch.server.body import read_json_object
from llorch.server.choices import submit_choices
from llorch.server.limits import limit_faults, refuse_if, timeout_of
from llorch.server.openapi import properties, stream_or_json
from llorch.server.ready import ready_model
from llorch.server.receipts import receipts_of
from llorch.server.routes.anthropic.answer import MessageAnswer
from llorch.server.routes.anthropic.fields import MESSAGES, PROMPT, operation
from llorch.server.routes.anthropic.request import NAMES, Asked, parse_messages
from llorch.server.routes.openai.models import served_name
from llorch.server.routes.openai.requests import keywords_of_choices, new_id
from llorch.server.routes.openai.structure import constraint_of

router = APIRouter(tags=["Anthropic"])


async def _read(request: Request, known: Mapping[str, Field]) -> Asked:
    settings = request.app.state.service.settings
    body = await read_json_object(request, settings.max_body_bytes)
    return await asyncio.to_thread(parse_messages, body, known, settings.max_prompt_chars)


_ANSWER = stream_or_json("A `message`; with `stream` named events", properties(id="string", content="array"))


@router.post("/v1/messages", summary="Answer a chat", **operation(MESSAGES, _ANSWER))
async def create_message(request: Request) -> Response:
    """The next message, in the model's own chat template."""
    service: EngineService = request.app.state.service
    asked = await _read(request, MESSAGES)
    given, structure, loaded = asked.given, asked.structure, ready_model(service)
    refuse_if(limit_faults(service.settings, "max_tokens", given["max_tokens"]))
    timeout_s = timeout_of(request, given.get("timeout"))
    receipts = await receipts_of(request, given.get("receipt", False), timeout_s)
    head = {"id": new_id("msg"), "type": "message", "role": "assistant", "model": served_name(service)}
    try:
        keywords = keywords_of_choices(
            request,
            {**given, "stop": given.get("stop_sequences", ())},
            [{"encode": asked.prompt_ids}],
            head["id"],
            max_tokens=given["max_tokens"],
            constraint=await constraint_of(structure, loaded.structure),
            shown_ids=frozenset(loaded.structure.marks.values() if structure.has_tools else ()),
        )
        choices = await submit_choices(service, keywords, timeout_s=timeout_s)
    except RequestError as error:
        raise NAMES.error(error) from None
    receipts.are_for(choices.requests)
    answer = MessageAnswer(head, receipts, structure.parser(loaded.structure))
    if given.get("stream", False):
        return choices.stream(answer.frames)
    (outcome,) = await choices.outcomes(request)
    content = await asyncio.to_thread(answer.body, outcome.end)
    return Response(content, media_type="application/json")


_COUNT = {"content": {"application/json": {"schema": properties(input_tokens="integer")}}}


@router.post("/v1/messages/count_tokens", summary="Count tokens", **operation(PROMPT, _COUNT))
async def count_tokens(request: Request) -> dict[str, int]:
    """Tokens that `POST /v1/messages` would read."""
    asked = await _read(request, PROMPT)
    loaded = ready_model(request.app.state.service)
    try:
        await constraint_of(asked.structure, loaded.structure)  # what the answer would be refused with
        return {"input_tokens": len(await asyncio.to_thread(asked.prompt_ids, loaded))}
    except RequestError as error:
        raise NAMES.error(error) from None
