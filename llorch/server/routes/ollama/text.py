"""`POST /api/chat` and `POST /api/generate`: the next message of a chat, and a text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from llorch.engine.service import EngineService
from llorch.errors import FieldError, RequestError
from llorch.server.choices import Choices, submit_choices
from llorch.server.limits import limit_faults, refuse_if, timeout_of
from llorch.server.openapi import properties
from llorch.server.ready import ready_model
from llorch.server.receipts import NO_RECEIPTS, receipts_of
from llorch.server.routes.ollama.answer import OllamaAnswer
from llorch.server.routes.ollama.fields import CHAT, GENERATE, operation
from llorch.server.routes.ollama.lines import MEDIA_TYPE, read_object
from llorch.server.routes.ollama.request import NAMES, Asked, parse_chat, parse_generate
from llorch.server.routes.openai.models import served_name
from llorch.server.routes.openai.requests import keywords_of_choices, new_id
from llorch.server.routes.openai.structure import constraint_of
from llorch.server.streaming import json_text
from llorch.settings import Settings

router = APIRouter(tags=["Ollama"])
_MESSAGE = properties(model="string", created_at="string", message="object", done="boolean")
_TEXT = properties(model="string", created_at="string", response="string", done="boolean")


@router.post("/api/chat", summary="Answer a chat", **operation(CHAT, _MESSAGE, streams=True))
async def chat(request: Request) -> Response:
    """As Ollama's: the next message, in the model's own chat template."""
    return await _answered(request, parse_chat, is_chat=True)


@router.post("/api/generate", summary="Continue a text", **operation(GENERATE, _TEXT, streams=True))
async def generate(request: Request) -> Response:
    """As Ollama's: the answer to a prompt, in the model's own chat template unless it is `raw`."""
    return await _answered(request, parse_generate, is_chat=False)


async def _answered(
    request: Request, parse: Callable[[Mapping[str, Any], Settings], Asked], *, is_chat: bool
) -> Response:
    service: EngineService = request.app.state.service
    settings = service.settings
    body = await read_object(request)
    if body.get("format") or body.get("tools"):  # there may be large schemas
        asked = await asyncio.to_thread(parse, body, settings)
    else:
        asked = parse(body, settings)
    loaded = ready_model(service)
    refuse_if(limit_faults(settings, "options.num_predict", asked.max_tokens))
    refuse_if(_context_faults(asked.given.get("context", ()), loaded.config.n_vocab))
    timeout_s = timeout_of(request, asked.given.get("timeout"))
    is_stream = asked.given.get("stream", True)
    if asked.encode is None:
        presence = OllamaAnswer(served_name(service), NO_RECEIPTS, is_chat=is_chat).presence()
        media_type = MEDIA_TYPE if is_stream else "application/json"
        return Response(f"{json_text(presence)}\n", media_type=media_type)
    receipts = await receipts_of(request, asked.given.get("receipt", False), timeout_s)
    try:
        choices = await _submitted(request, asked, timeout_s)
    except RequestError as error:
        raise NAMES.error(error) from None
    receipts.are_for(choices.requests)
    answer = OllamaAnswer(
        served_name(service),
        receipts,
        is_chat=is_chat,
        tokenizer=loaded.tokenizer if asked.given.get("logprobs", False) else None,
        parser=asked.structure.parser(loaded.structure),
        prompt=None if is_chat or asked.given.get("raw", False) else choices.prompts[0],
    )
    if is_stream:
        return choices.stream(answer.frames, media_type=MEDIA_TYPE, keep_alive=answer.nothing)
    (outcome,) = await choices.outcomes(request)
    return Response(await asyncio.to_thread(answer.body, outcome), media_type="application/json")


def _context_faults(context: Sequence[int], n_vocab: int) -> list[FieldError]:
    """What is wrong with the ids of an earlier answer for this model."""
    n_bad = sum(token_id >= n_vocab for token_id in context)
    rule = f"token ids, 0 <= id < {n_vocab}"
    message = f"context: expected {rule}; got {n_bad} of {len(context)} wrong"
    return [FieldError("context", rule, message)] if n_bad else []


async def _submitted(request: Request, asked: Asked, timeout_s: float | None) -> Choices:
    """The generation that a body asks for, accepted.

    Raises:
        RequestError: it cannot be; fields have the engine's names.
    """
    service: EngineService = request.app.state.service
    structure, loaded = asked.structure, ready_model(service)
    keywords = keywords_of_choices(
        request,
        {**asked.given, "stop": asked.options.get("stop", ())},
        [{"encode": asked.encode}],
        new_id("ollama"),
        max_tokens=asked.max_tokens,
        params=asked.params(service.settings),
        n_logprobs=asked.given.get("top_logprobs", 0) if asked.given.get("logprobs", False) else None,
        constraint=await constraint_of(structure, loaded.structure),
        shown_ids=frozenset(loaded.structure.marks.values() if structure.has_tools else ()),
    )
    return await submit_choices(service, keywords, timeout_s=timeout_s)
