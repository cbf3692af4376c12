"""`POST /v1/completions`: text that continues prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from llorch.engine.service import EngineService
from llorch.errors import FieldError, InputError, RequestError
from llorch.server.body import check_fields, read_json_object
from llorch.server.choices import submit_choices
from llorch.server.limits import capacity_faults, limit_faults, refuse_if, timeout_of
from llorch.server.ready import ready_model
from llorch.server.receipts import receipts_of
from llorch.server.routes.openai.answer import Answer
from llorch.server.routes.openai.completion_text import CompletionText
from llorch.server.routes.openai.errors import renamed
from llorch.server.routes.openai.fields import COMPLETION, REFUSED_IN_COMPLETIONS, refused_faults
from llorch.server.routes.openai.kinds import length_faults, prompt_list
from llorch.server.routes.openai.models import served_name
from llorch.server.routes.openai.requests import (
    keywords_of_choices,
    new_id,
)
from llorch.server.routes.openai.schemas import completion_operation
from llorch.server.routes.openai.structure import FREE, constraint_of, parse_structure, parsed
from llorch.text.tokenizer import Tokenizer

router = APIRouter(tags=["OpenAI"])

DEFAULT_MAX_TOKENS = 16
"""OpenAI's."""
_NAMES = {"token_ids": "prompt", "job_id": "id"}


def parse_completion(body: Mapping[str, Any], max_prompt_chars: int) -> dict[str, Any]:
    """The fields given in a body of `POST /v1/completions`; `structure` is of several.

    Raises:
        RequestError: with every fault of the body.
    """
    faults = length_faults(body.get("prompt"), max_prompt_chars)
    if body.get("max_tokens") == 0 and body.get("echo") is not True:
        faults.append(FieldError("max_tokens", "max_tokens >= 1", "max_tokens: 0 needs echo"))
    best_of, n = body.get("best_of"), body.get("n") or 1
    if best_of is not None and (isinstance(best_of, bool) or best_of != n):
        faults.append(
            FieldError("best_of", "best_of = n", "best_of: this server returns all that it generates")
        )
    faults += refused_faults(body, REFUSED_IN_COMPLETIONS)
    structure = parse_structure(body, faults, has_tools=False)
    given = check_fields(body, COMPLETION, required=("prompt",), more_faults=faults, ignores_unknown=True)
    return given if structure == FREE else {**given, "structure": structure}


@router.post("/v1/completions", summary="Continue texts", **completion_operation(COMPLETION))
async def create_completion(request: Request) -> Response:
    """As OpenAI's: a choice for each prompt and each of `n`, at index `prompt * n + k`."""
    service: EngineService = request.app.state.service
    settings = service.settings
    body = await read_json_object(request, settings.max_body_bytes)
    given = await parsed(parse_completion, body, settings.max_prompt_chars)
    loaded = ready_model(service)
    prompts = prompt_list(given["prompt"])
    n = given.get("n", 1)
    faults = limit_faults(settings, "max_tokens", given.get("max_tokens"))
    refuse_if(capacity_faults(n, len(prompts) * n, settings) + faults)
    timeout_s = timeout_of(request, given.get("timeout"))
    receipts = await receipts_of(request, given.get("receipt", False), timeout_s)
    max_tokens, echo, top = (
        given.get("max_tokens", DEFAULT_MAX_TOKENS),
        given.get("echo", False),
        given.get("logprobs"),
    )
    answer = Answer(
        new_id("cmpl"),
        "text_completion",
        served_name(service),
        n_choices=len(prompts) * n,
        n=n,
        includes_usage=bool((given.get("stream_options") or {}).get("include_usage")),
    )
    asked = keywords_of_choices(
        request,
        given,
        [{"prompt": one} if isinstance(one, str) else {"token_ids": one} for one in prompts],
        answer.id,
        max_tokens=max_tokens,
        n_logprobs=top,
        n_prompt_logprobs=top if echo else None,
        constraint=await constraint_of(given.get("structure", FREE), loaded.structure),
    )
    echoed = await asyncio.to_thread(_echoed, loaded.tokenizer, prompts, n) if echo else None
    try:
        choices = await submit_choices(service, asked, timeout_s=timeout_s)
    except RequestError as error:
        raise renamed(error, _NAMES) from None
    receipts.are_for(choices.requests)
    text = CompletionText(
        answer,
        loaded.tokenizer,
        choices.prompts,
        echoed=echoed,
        has_logprobs=top is not None,
        has_token_ids=given.get("return_token_ids", False),
        receipts=receipts,
    )
    if given.get("stream", False):
        return choices.stream(text.frames)
    outcomes = await choices.outcomes(request)
    is_slow = top is not None or receipts.is_asked_for
    content = await asyncio.to_thread(text.body, outcomes) if is_slow else text.body(outcomes)
    return Response(content, media_type="application/json")


def _echoed(tokenizer: Tokenizer, prompts: Sequence[str | list[int]], n: int) -> list[str]:
    """The text of each choice's prompt."""
    return [text for one in prompts for text in [_text(tokenizer, one)] * n]


def _text(tokenizer: Tokenizer, prompt: str | list[int]) -> str:
    if isinstance(prompt, str):
        return prompt
    try:
        return tokenizer.decode(prompt)
    except InputError:  # an id outside the vocabulary, which the engine will refuse
        return ""
