"""`POST /completion`, also called `/completions`: llama-server's own way to continue a text."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from llorch.engine.mailbox import ChoiceEvent
from llorch.engine.service import EngineService
from llorch.errors import RequestError
from llorch.open_model import OpenModel
from llorch.server.access import owner_of
from llorch.server.body import read_json_object
from llorch.server.choices import Choices, Outcome, submit_choices
from llorch.server.limits import capacity_faults, limit_faults, refuse_if, timeout_of
from llorch.server.openapi import json_body
from llorch.server.ready import ready_model
from llorch.server.receipts import AnswerReceipts, receipts_of
from llorch.server.routes.llama_server.biases import biases_of
from llorch.server.routes.llama_server.completion_answer import CompletionAnswer
from llorch.server.routes.llama_server.completion_fields import (
    CompletionRequest,
    completion_schema,
    parse_completion,
)
from llorch.server.routes.llama_server.descriptions import REFUSALS_OF_TEXTS
from llorch.server.routes.llama_server.prompts import Prompt, prompt_ids, shown_text
from llorch.server.routes.openai.errors import renamed
from llorch.server.routes.openai.requests import params_of_choice
from llorch.server.routes.openai.structure import constraint_of
from llorch.text.tokenizer import Tokenizer

router = APIRouter(tags=["llama-server"])

_NAMES = {"token_ids": "prompt", "max_tokens": "n_predict"}
"""Fields that the engine calls otherwise."""


@router.post(
    "/completion",
    summary="Continue texts",
    responses={
        200: {
            "description": "An object, for several prompts an array; or `data:` events, the last with `stop: true`",
            "content": {"application/json": {}, "text/event-stream": {}},
        },
        **REFUSALS_OF_TEXTS,
    },
    openapi_extra=json_body(completion_schema()),
)
@router.post("/completions", include_in_schema=False)
async def completion(request: Request) -> Response:
    """Check the request, take a place for each of its generations, then answer."""
    service: EngineService = request.app.state.service
    body = await read_json_object(request, service.settings.max_body_bytes)
    limit = service.settings.max_prompt_chars
    if isinstance(body.get("prompt"), str) and body.get("json_schema") is None:
        asked = parse_completion(body, limit)
    else:  # lists and schemas may be long
        asked = await asyncio.to_thread(parse_completion, body, limit)
    loaded = ready_model(service)
    constraint = await constraint_of(asked.structure, loaded.structure)
    options = {"owner": owner_of(request.scope), "constraint": constraint}
    timeout_s = timeout_of(request, asked.get("timeout"))
    receipts = await receipts_of(request, asked.get("receipt"), timeout_s)
    try:
        generations = _generations(service, loaded, asked, options)
        choices = await submit_choices(service, generations, timeout_s=timeout_s)
    except RequestError as error:
        raise renamed(error, _NAMES) from None
    try:
        receipts.are_for(choices.requests)
        answers = await _answers(service, loaded, asked, choices, receipts)
    except BaseException:  # the client may leave even now
        choices.finish()
        raise
    if asked.get("stream"):
        return choices.stream(partial(_frame, answers))
    outcomes = await choices.outcomes(request)
    if asked.get("n_probs") or receipts.is_asked_for:  # there may be a hundred thousand
        return await asyncio.to_thread(_whole, answers, outcomes)
    return _whole(answers, outcomes)


def _whole(answers: list[CompletionAnswer], outcomes: list[Outcome]) -> Response:
    documents = [answer.whole(outcome) for answer, outcome in zip(answers, outcomes, strict=True)]
    return JSONResponse(documents[0] if len(documents) == 1 else documents)


def _generations(
    service: EngineService, loaded: OpenModel, asked: CompletionRequest, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """Keywords of `EngineService.submit` for each generation: `n_cmpl` of each prompt, side by side.

    Args:
        service: what computes.
        loaded: its model.
        asked: what the client wants.
        options: more of the engine's `Request`.

    Raises:
        RequestError: they are too many or too long for the operator, or a biased text is not valid Unicode.
    """
    settings = service.settings
    n = asked.get("n_cmpl")
    faults = capacity_faults(n, len(asked.prompts) * n, settings, name="n_cmpl")
    refuse_if(faults + limit_faults(settings, "n_predict", asked.given.get("n_predict")))
    params = asked.params(settings, biases_of(asked.logit_bias, loaded.tokenizer))
    is_stream, n_probs = asked.get("stream"), asked.get("n_probs")
    shared = {
        "max_tokens": asked.max_tokens(settings, service.n_ctx),
        "stop": asked.stop,
        "ignore_eos": asked.get("ignore_eos"),
        "options": {
            **options,
            "cache_prompt": asked.get("cache_prompt"),
            "n_logprobs": n_probs or None,
            "logprobs_after_sampling": bool(n_probs) and asked.get("post_sampling_probs"),
            "hashes_logits": asked.get("receipt"),
            "wants_progress": is_stream and (asked.get("return_progress") or asked.get("timings_per_token")),
        },
    }
    return [
        {
            **shared,
            "encode": partial(_encoded, prompt),
            "params": params_of_choice(params, k),
        }
        for prompt in asked.prompts
        for k in range(n)
    ]


def _encoded(prompt: Prompt, loaded: OpenModel) -> list[int]:
    return prompt_ids(loaded.tokenizer, prompt)


async def _answers(
    service: EngineService,
    loaded: OpenModel,
    asked: CompletionRequest,
    choices: Choices,
    receipts: AnswerReceipts,
) -> list[CompletionAnswer]:
    texts = await asyncio.to_thread(_texts, loaded.tokenizer, choices)
    model = service.settings.alias or loaded.name
    return [
        CompletionAnswer(index, asked, request, text, model, loaded.tokenizer, receipts)
        for index, (request, text) in enumerate(zip(choices.requests, texts, strict=True))
    ]


def _texts(tokenizer: Tokenizer, choices: Choices) -> list[str]:
    return [shown_text(tokenizer, request.token_ids) for request in choices.requests]


def _frame(answers: list[CompletionAnswer], choice_event: ChoiceEvent) -> bytes:
    index, event = choice_event
    return answers[index].frame(event)
