"""`POST /v1/responses` and `/v1/responses/input_tokens`: OpenAI's Responses API, of which nothing is stored.

Source: https://platform.openai.com/docs/api-reference/responses, tried with the `openai` client.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from llorch.engine.service import EngineService
from llorch.errors import RequestError
from llorch.server.body import read_json_object
from llorch.server.choices import submit_choices
from llorch.server.limits import limit_faults, refuse_if, timeout_of
from llorch.server.ready import ready_model
from llorch.server.receipts import receipts_of
from llorch.server.routes.openai.chat import counted_prompt, prompt_encoder
from llorch.server.routes.openai.models import served_name
from llorch.server.routes.openai.requests import keywords_of_choices, new_id
from llorch.server.routes.openai.responses.answer import ResponseAnswer, response_head
from llorch.server.routes.openai.responses.fields import LOGPROBS, PROMPT, RESPONSES
from llorch.server.routes.openai.responses.request import NAMES, parse_response
from llorch.server.routes.openai.schemas import counted_response_operation, response_operation
from llorch.server.routes.openai.structure import FREE, Structure, constraint_of, parsed

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/responses", summary="Answer a chat", **response_operation(RESPONSES))
async def create_response(request: Request) -> Response:
    """As OpenAI's: the answer to `input`, in the model's own chat template; earlier turns come with each request."""
    service: EngineService = request.app.state.service
    settings = service.settings
    body = await read_json_object(request, settings.max_body_bytes)
    given = await parsed(parse_response, body, settings.max_prompt_chars)
    structure: Structure = given.get("structure", FREE)
    loaded = ready_model(service)
    limit = given.get("max_output_tokens")
    refuse_if(limit_faults(settings, "max_output_tokens", limit))
    timeout_s = timeout_of(request, given.get("timeout"))
    receipts = await receipts_of(request, given.get("receipt", False), timeout_s)
    has_logprobs = LOGPROBS in given.get("include", ())
    answer_id = new_id("resp", "_")
    try:
        asked = keywords_of_choices(
            request,
            given,
            [{"encode": prompt_encoder(given)}],
            answer_id,
            max_tokens=-1 if limit is None else limit,
            n_logprobs=given.get("top_logprobs", 0) if has_logprobs else None,
            constraint=await constraint_of(structure, loaded.structure),
            shown_ids=frozenset(loaded.structure.marks.values() if structure.has_tools else ()),
        )
        choices = await submit_choices(service, asked, timeout_s=timeout_s)
    except RequestError as error:
        raise NAMES.error(error) from None
    receipts.are_for(choices.requests)
    head = response_head(given, answer_id, served_name(service), asked[0]["params"])
    tokenizer = loaded.tokenizer if has_logprobs else None
    answer = ResponseAnswer(head, structure.parser(loaded.structure), receipts, tokenizer)
    if given.get("stream", False):
        return choices.stream(answer.frames)
    (outcome,) = await choices.outcomes(request)
    is_slow = has_logprobs or structure.has_tools or receipts.is_asked_for
    content = await asyncio.to_thread(answer.body, outcome) if is_slow else answer.body(outcome)
    return Response(content, media_type="application/json")


@router.post("/v1/responses/input_tokens", summary="Count tokens", **counted_response_operation(PROMPT))
async def count_response_input_tokens(request: Request) -> dict[str, Any]:
    """Tokens that `POST /v1/responses` would read; fields that do not matter to the prompt are not looked at."""
    service: EngineService = request.app.state.service
    settings = service.settings
    body = await read_json_object(request, settings.max_body_bytes)
    names = {*PROMPT, "previous_response_id", "conversation"}
    body = {name: value for name, value in body.items() if name in names}
    given = await parsed(parse_response, body, settings.max_prompt_chars)
    try:
        token_ids = await counted_prompt(given, ready_model(service))
    except RequestError as error:
        raise NAMES.error(error) from None
    return {"object": "response.input_tokens", "input_tokens": len(token_ids)}
