"""`POST /generate` and `POST /cancel`, the native API: one request, one stream of named events."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from llorch.engine.events import ErrorEvent, Event, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.service import EngineService
from llorch.errors import FieldError
from llorch.server import schemas
from llorch.server.body import read_json_object
from llorch.server.errors import HTTPRefusalError, NotReadyError, failure
from llorch.server.streaming import event_stream, last_event, sse_frame
from llorch.settings import Settings

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
    settings = service.settings
    body = await read_json_object(request, settings.max_body_bytes)
    fields = schemas.parse_generate(body, settings.max_prompt_chars)
    if service.stage != "ready":
        raise NotReadyError(service.stage)
    submission = await service.submit(
        prompt=fields.prompt,
        token_ids=fields.token_ids,
        params=sampling_params(fields, settings),
        max_tokens=fields.max_tokens,
        stop=fields.stop or (),
        ignore_eos=bool(fields.ignore_eos),
        job_id=fields.job_id,
    )
    if fields.stream is not False:
        return event_stream(service, submission, event_frame)
    last = await last_event(request, service, submission)
    if isinstance(last, ErrorEvent):
        return failure(
            last.code, last.message, status=503 if last.retriable else 500, is_retriable=last.retriable
        )
    return JSONResponse(event_json(last))


@router.post(
    "/cancel",
    summary="End a generation",
    responses={404: {"description": "No unfinished generation has this job_id"}, **_REFUSALS},
    openapi_extra=_json_body(schemas.CancelRequest),
)
async def cancel(request: Request) -> dict[str, Any]:
    """Its stream ends with an `end` event whose finish_reason is `abort`."""
    service: EngineService = request.app.state.service
    body = await read_json_object(request, service.settings.max_body_bytes)
    job_id = schemas.parse_cancel(body).job_id
    if not service.cancel(job_id):
        message = "no unfinished generation has this job_id"
        raise HTTPRefusalError(404, FieldError("job_id", "an unfinished generation", message))
    return {"job_id": job_id, "cancelled": True}


def event_json(event: Event) -> dict[str, object]:
    """An event as the native API writes it."""
    if isinstance(event, TokenEvent):  # one for every token, and `asdict` is slow
        return {"type": "token", "i": event.i, "id": event.id, "text": event.text}
    return {"type": event.type, **dataclasses.asdict(event)}


def event_frame(event: Event) -> bytes:
    """An event as a frame of the native stream."""
    return sse_frame(event_json(event), event.type)
