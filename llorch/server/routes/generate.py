"""`POST /generate` and `POST /cancel`, the native API: the fields they take, and the events they answer with."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from llorch.engine.events import EndEvent, EndTokenEvent, ErrorEvent, Event, TokenEvent, TokenLogprobs
from llorch.engine.params import SamplingParams
from llorch.engine.service import EngineService
from llorch.errors import FieldError
from llorch.fields.table import REQUEST
from llorch.server.access import owner_of
from llorch.server.body import check_fields, object_schema, read_json_object
from llorch.server.choices import Choices
from llorch.server.errors import GenerationFailedError, HTTPRefusalError, NotReadyError
from llorch.server.limits import limit_faults, refuse_if, timeout_of
from llorch.server.openapi import GENERATED, POSTED, json_body, properties, refusals, stream_or_json
from llorch.server.receipts import NO_RECEIPTS, AnswerReceipts, receipts_of
from llorch.server.routes.openai.logprobs import finite, token_text
from llorch.server.streaming import json_text, last_event, sse_frame
from llorch.text.tokenizer import Tokenizer

router = APIRouter(tags=["generate"])

_FAULT = properties(field="string", constraint="string", message="string")
_FAULTS = {
    "type": "object",
    "properties": {"errors": {"type": "array", "items": _FAULT}},
    "required": ["errors"],
}
_FAILURE = properties(type="string", code="string", message="string", retriable="boolean")
NATIVE_ERRORS = {0: _FAULTS, 500: _FAILURE, 503: _FAILURE, 504: _FAILURE}
_HINTS = {
    "inputs": "the `parameters` of text-generation-inference stand at the top level here",
    "parameters": "its members stand at the top level here (max_tokens, temperature, ...)",
    "options": "its members stand at the top level here (max_tokens, temperature, ...)",
    "messages": "/generate continues plain text",
    "do_sample": "temperature 0 is greedy",
}
_CANCEL = {"job_id": REQUEST["job_id"]}


def _generate_schema() -> dict[str, Any]:
    """JSON schema of a body of `POST /generate`: with exactly one of two prompts, which null does not give."""
    schema = object_schema(REQUEST)
    prompts = {name: REQUEST[name].kind.adapter.json_schema() for name in ("prompt", "token_ids")}
    absent = {"type": "null"}
    schema["oneOf"] = [
        {"required": [given], "properties": {given: prompts[given], other: absent}}
        for given, other in (("prompt", "token_ids"), ("token_ids", "prompt"))
    ]
    return schema


def parse_generate(body: Mapping[str, Any], max_prompt_chars: int) -> dict[str, Any]:
    """The fields given in a body of `POST /generate`, `stop` as a list and `logit_bias` by token id.

    Raises:
        RequestError: with every fault of the body.
    """
    prompt_faults = _prompt_faults(body.get("prompt"), body.get("token_ids"), max_prompt_chars)
    given = check_fields(body, REQUEST, hints=_HINTS, more_faults=prompt_faults)
    if isinstance(given.get("stop"), str):
        given["stop"] = [given["stop"]]
    if "logit_bias" in given:
        given["logit_bias"] = {int(token_id): bias for token_id, bias in given["logit_bias"].items()}
    return given


def _prompt_faults(prompt: object, token_ids: object, max_chars: int) -> list[FieldError]:
    """What is wrong with prompt and token_ids together, and with the length of the prompt."""
    rule = "exactly one of prompt and token_ids"
    if prompt is None and token_ids is None:
        return [FieldError("prompt", rule, "give the text to continue as prompt, or its ids as token_ids")]
    faults = []
    if prompt is not None and token_ids is not None:
        faults.append(FieldError("prompt", rule, "prompt and token_ids exclude each other"))
    if isinstance(prompt, str) and len(prompt) > max_chars:
        rule = f"1 <= characters <= {max_chars}"
        faults.append(FieldError("prompt", rule, f"prompt: expected {rule}; got {len(prompt)} characters"))
    return faults


def parse_cancel(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields given in a body of `POST /cancel`.

    Raises:
        RequestError: with every fault of the body.
    """
    return check_fields(body, _CANCEL, required=_CANCEL)


@router.post(
    "/generate",
    summary="Continue a text",
    responses={
        200: stream_or_json(
            "Events `started`, `token`..., `end` or `error`; with `stream: false` only `end`"
        ),
        **refusals((*GENERATED, 409), NATIVE_ERRORS),
    },
    openapi_extra=json_body(_generate_schema()),
)
async def generate(request: Request) -> Response:
    """Check the request, take a place in line, then answer; no status is sent before that."""
    service: EngineService = request.app.state.service
    settings = service.settings
    body = await read_json_object(request, settings.max_body_bytes)
    given = parse_generate(body, settings.max_prompt_chars)
    if service.stage != "ready":
        raise NotReadyError(service.stage, service.reason)
    sampling = {name: value for name, value in given.items() if name in SamplingParams.__dataclass_fields__}
    refuse_if(limit_faults(settings, "max_tokens", given.get("max_tokens")))
    owner, timeout_s = owner_of(request.scope), timeout_of(request, given.get("timeout_s"))
    receipts = await receipts_of(request, given.get("receipt", False), timeout_s)
    [place] = service.reserve([given.get("job_id")], owner=owner, timeout_s=timeout_s)
    submission = await service.submit(
        place=place,
        prompt=given.get("prompt"),
        token_ids=given.get("token_ids"),
        params=dataclasses.replace(SamplingParams.from_settings(settings), **sampling),
        max_tokens=given.get("max_tokens"),
        stop=given.get("stop", ()),
        ignore_eos=given.get("ignore_eos", False),
        options={
            "owner": owner,
            "hashes_logits": receipts.is_asked_for,
            "min_tokens": given.get("min_tokens", 0),
            "stop_token_ids": given.get("stop_token_ids", ()),
            "n_logprobs": given.get("logprobs"),
        },
    )
    assert submission.request is not None  # it was submitted
    assert service.loaded is not None
    receipts.are_for((submission.request,))
    tokenizer = service.loaded.tokenizer
    if given.get("stream", True):
        write = partial(event_frame, receipts=receipts, tokenizer=tokenizer)
        return Choices(service, [submission]).stream(lambda news: write(news[1]))
    judged: list[dict[str, Any]] = []
    last = await last_event(request, service, submission, partial(_keep_logprobs, judged, tokenizer))
    if isinstance(last, ErrorEvent):
        raise GenerationFailedError(last)
    more = {} if given.get("logprobs") is None else {"logprobs": judged}
    if receipts.is_asked_for:
        return JSONResponse(await asyncio.to_thread(event_json, last, receipts) | more)
    return JSONResponse(event_json(last) | more)


@router.post(
    "/cancel",
    summary="End a generation",
    responses=refusals((404, *POSTED), NATIVE_ERRORS),
    openapi_extra=json_body(object_schema(_CANCEL, required=_CANCEL)),
)
async def cancel(request: Request) -> dict[str, Any]:
    """Its stream ends with an `end` event whose finish_reason is `abort`."""
    service: EngineService = request.app.state.service
    body = await read_json_object(request, service.settings.max_body_bytes)
    job_id = parse_cancel(body)["job_id"]
    if not service.cancel(job_id, owner_of(request.scope)):
        message = "no unfinished generation has this job_id"
        raise HTTPRefusalError(404, FieldError("job_id", "an unfinished generation", message))
    return {"job_id": job_id, "cancelled": True}


def event_json(
    event: Event, receipts: AnswerReceipts = NO_RECEIPTS, tokenizer: Tokenizer | None = None
) -> dict[str, object]:
    """An event as the native API writes it.

    Args:
        event: any but an `EndTokenEvent`.
        receipts: those that the answer's end bears.
        tokenizer: spells the most probable tokens, if the request asks for them.
    """
    if isinstance(event, TokenEvent):
        token: dict[str, object] = {"type": "token", "i": event.i, "id": event.id, "text": event.text}
        if event.logprobs is not None and tokenizer is not None:
            token |= _logprobs_json(event.logprobs, tokenizer)
        return token
    content = {"type": event.type, **dataclasses.asdict(event)}
    if isinstance(event, EndEvent):
        del content["logits"]  # a receipt says it
        if not event.timed_out:
            del content["timed_out"]
        content |= receipts.member(0, event)
    return content


def event_frame(
    event: Event, receipts: AnswerReceipts = NO_RECEIPTS, tokenizer: Tokenizer | None = None
) -> bytes:
    """An event as a frame of the native stream; nothing of an `EndTokenEvent`, which is no token of the answer."""
    if type(event) is TokenEvent and event.logprobs is None:  # nearly always, and one for every token
        token_id = "null" if event.id is None else event.id
        members = f'"type":"token","i":{event.i},"id":{token_id},"text":{json_text(event.text)}'
        return f"event: token\ndata: {{{members}}}\n\n".encode()
    if isinstance(event, EndTokenEvent):
        return b""
    return sse_frame(event_json(event, receipts, tokenizer), event.type)


def _logprobs_json(logprobs: TokenLogprobs, tokenizer: Tokenizer) -> dict[str, object]:
    """How probable a token was, and the most probable ones with their spellings."""
    top = [
        {
            "id": token_id,
            "text": token_text(tokenizer.token_bytes(token_id, special=True)),
            "logprob": finite(logprob),
        }
        for token_id, logprob in logprobs.top
    ]
    return {"logprob": finite(logprobs.logprob), "top_logprobs": top}


def _keep_logprobs(judged: list[dict[str, Any]], tokenizer: Tokenizer, event: Event) -> None:
    """Append what `event` says about a token of the answer."""
    if isinstance(event, TokenEvent) and event.id is not None and event.logprobs is not None:
        judged.append({"id": event.id, **_logprobs_json(event.logprobs, tokenizer)})
