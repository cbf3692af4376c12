"""`POST /generate` and `POST /cancel`, the native API: one request, one stream of named events."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from llorch.engine.ledger import Submission
from llorch.engine.params import SamplingParams
from llorch.engine.service import EngineService
from llorch.engine.stream import EndEvent, ErrorEvent, Event
from llorch.errors import FieldError
from llorch.server import schemas
from llorch.server.body import read_json_object
from llorch.server.errors import HTTPRefusalError, NotReadyError, failure
from llorch.server.sse import EventStream, frame
from llorch.settings import Settings

logger = logging.getLogger(__name__)
router = APIRouter(tags=["generate"])

_SAMPLING_FIELDS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Every fault of the request, as `errors`"},
    413: {"description": "The body is too large"},
    503: {"description": "Not ready, or too many requests are waiting; Retry-After says when to come back"},
}


def _json_body(model: type[schemas.GenerateRequest] | type[schemas.CancelRequest]) -> dict[str, Any]:
    """OpenAPI's description of a body that the route reads by itself."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": model.model_json_schema()}},
        }
    }


def sampling_params(fields: schemas.GenerateRequest, settings: Settings) -> SamplingParams:
    """What the request says about sampling, on top of the settings."""
    given = {name: value for name in _SAMPLING_FIELDS if (value := getattr(fields, name)) is not None}
    if fields.logit_bias:
        given["logit_bias"] = {int(token_id): bias for token_id, bias in fields.logit_bias.items()}
    return dataclasses.replace(SamplingParams.from_settings(settings), **given)


@router.post(
    "/generate",
    summary="Continue a text",
    responses={
        200: {
            "description": "Events `started`, `token`..., `end` or `error`; with `stream: false` only `end`",
            "content": {"text/event-stream": {}, "application/json": {}},
        },
        **_REFUSALS,
    },
    openapi_extra=_json_body(schemas.GenerateRequest),
)
async def generate(request: Request) -> Response:
    """Check the request, take a place in line, then answer; no status is sent before that."""
    service: EngineService = request.app.state.service
    settings: Settings = request.app.state.settings
    body = await read_json_object(request, settings.max_body_bytes)
    fields = schemas.parse_generate(body, settings.max_prompt_chars)
    if service.stage != "ready":
        raise NotReadyError(service.stage)
    began_s = time.monotonic()
    submission = await service.submit(
        prompt=fields.prompt,
        token_ids=fields.token_ids,
        params=sampling_params(fields, settings),
        max_tokens=fields.max_tokens,
        stop=fields.stop or (),
        ignore_eos=bool(fields.ignore_eos),
        job_id=fields.job_id,
    )
    if fields.stream is False:
        return await _whole_answer(request, service, submission, began_s)
    return EventStream(
        _frames(service, submission, began_s),
        lambda: service.release(submission),
        keep_alive_s=settings.keep_alive_s,
        send_timeout_s=settings.send_timeout_s,
    )


@router.post(
    "/cancel",
    summary="End a generation",
    responses={404: {"description": "No unfinished generation has this job_id"}, **_REFUSALS},
    openapi_extra=_json_body(schemas.CancelRequest),
)
async def cancel(request: Request) -> dict[str, Any]:
    """Its stream ends with an `end` event whose finish_reason is `abort`."""
    service: EngineService = request.app.state.service
    body = await read_json_object(request, request.app.state.settings.max_body_bytes)
    job_id = schemas.parse_cancel(body).job_id
    if not service.cancel(job_id):
        message = "no unfinished generation has this job_id"
        raise HTTPRefusalError(404, FieldError("job_id", "an unfinished generation", message))
    return {"job_id": job_id, "cancelled": True}


async def _events(
    service: EngineService, submission: Submission, began_s: float
) -> AsyncGenerator[Event, None]:
    """The events of a generation; one line of the log says how it went, whichever way it ends."""
    last: Event | None = None
    stream = service.stream(submission)
    try:
        async for event in stream:
            last = event
            yield event
    finally:
        await stream.aclose()
        _log(submission, last, time.monotonic() - began_s)


async def _frames(
    service: EngineService, submission: Submission, began_s: float
) -> AsyncGenerator[bytes, None]:
    """The events of a generation as server-sent events."""
    events = _events(service, submission, began_s)
    try:
        async for event in events:
            yield frame(event.to_json())
    finally:
        await events.aclose()


async def _whole_answer(
    request: Request, service: EngineService, submission: Submission, began_s: float
) -> Response:
    """The last event as one JSON body; a client that leaves meanwhile ends the generation."""
    generation = asyncio.create_task(_last_event(service, submission, began_s))
    departure = asyncio.create_task(_wait_for_departure(request))
    try:
        await asyncio.wait({generation, departure}, return_when=asyncio.FIRST_COMPLETED)
        if not generation.done():
            service.release(submission)  # its `end` event comes within a step
        last = await generation
    finally:
        service.release(submission)
        for task in (generation, departure):
            task.cancel()
    if isinstance(last, ErrorEvent):
        return failure(
            last.code, last.message, status=503 if last.retriable else 500, is_retriable=last.retriable
        )
    return JSONResponse(last.to_json())


async def _last_event(
    service: EngineService, submission: Submission, began_s: float
) -> EndEvent | ErrorEvent:
    last: Event | None = None
    async for event in _events(service, submission, began_s):
        last = event
    assert isinstance(last, EndEvent | ErrorEvent)  # the service ends every stream with one of them
    return last


async def _wait_for_departure(request: Request) -> None:
    """Return when the client has closed the connection; its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _log(submission: Submission, last: Event | None, total_s: float) -> None:
    """One line for a finished generation: counts and times, never text."""
    extra: dict[str, object] = {
        "job_id": submission.job_id,
        "prompt_tokens": submission.n_prompt,
        "total_s": round(total_s, 4),
    }
    outcome = last.code if isinstance(last, ErrorEvent) else "client left"
    if isinstance(last, EndEvent):
        outcome = str(last.finish_reason)
        extra["completion_tokens"] = last.usage.completion_tokens
        extra |= {name: round(value, 4) for name, value in dataclasses.asdict(last.timings).items()}
    extra["outcome"] = outcome
    counts = f"{submission.n_prompt} + {extra.get('completion_tokens', '?')} tokens"
    logger.info("%s: %s, %s in %.2f s", submission.job_id, outcome, counts, total_s, extra=extra)
