"""`POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's API, as far as it is about text.

Source: https://docs.anthropic.com/en/api/messages and .../messages-streaming, tried with the `anthropic` client.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from llorch.chat.messages import checked_messages
from llorch.engine.events import EndEvent, ErrorEvent, StartedEvent, TokenEvent, Usage
from llorch.engine.mailbox import ChoiceEvent
from llorch.errors import FieldError, RequestError
from llorch.fields.field import Field
from llorch.fields.kinds import BOOLEAN, Kind, integer, number
from llorch.fields.table import FIELDS
from llorch.open_model import OpenModel
from llorch.server.body import check_fields, object_schema, read_json_object
from llorch.server.choices import submit_choices
from llorch.server.errors import event_status, outline
from llorch.server.limits import limit_faults, refuse_if, timeout_of
from llorch.server.openapi import GENERATED, json_body, properties, refusals, stream_or_json
from llorch.server.ready import ready_model
from llorch.server.routes.openai.errors import renamed
from llorch.server.routes.openai.models import served_name
from llorch.server.routes.openai.requests import keywords_of_choices, new_id
from llorch.server.streaming import sse_frame

router = APIRouter(tags=["Anthropic"])
Encode: TypeAlias = Callable[[OpenModel], list[int]]

_NO_TOOLS = Kind(list[Any], "an empty list (/v1/chat/completions has tools)", {"max_length": 0})
_COUNTED = {"tools": Field("tools", _NO_TOOLS, None, words="none")}
_KNOWN = _COUNTED | {
    field.name: field
    for field in (
        Field("max_tokens", integer(1), None, words="most tokens to generate"),
        Field("temperature", number(0, 1), 1.0, words="0 takes the most probable token each time"),
        FIELDS["top_k"],
        FIELDS["top_p"],
        dataclasses.replace(FIELDS["stop"], name="stop_sequences"),
        Field("stream", BOOLEAN, False, words="named events"),
        dataclasses.replace(FIELDS["timeout_s"], name="timeout"),
    )
}
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "abort": "pause_turn"}
_ERROR_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 500: "api_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip
_NAMES = {"prompt": "messages", "token_ids": "messages", "stop": "stop_sequences"}
_PART = properties(text="string") | {"required": ["type", "text"]}
_PART["properties"]["type"] = {"const": "text"}
_TEXT = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}
_SYSTEM = {"anyOf": [*_TEXT["anyOf"], {"type": "null"}]}
_TURN = properties(role="string", content="string")
_TURN["properties"] = {"role": {"enum": ["user", "assistant"]}, "content": _TEXT}


def _operation(known: Mapping[str, Field], answer: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI's description of a route that takes the fields `known`."""
    schema = object_schema(known, known.keys() & {"max_tokens"}) | {"additionalProperties": True}
    schema["required"].append("messages")
    schema["properties"] |= {"messages": {"type": "array", "minItems": 1, "items": _TURN}, "system": _SYSTEM}
    errors = refusals(GENERATED, {0: properties(type="string", error="object")})
    return {"responses": {200: answer, **errors}, "openapi_extra": json_body(schema)}


def anthropic_shape(error: Exception) -> Response:
    """The answer to a request that ended in `error`."""
    status, message, headers = outline(error)
    return JSONResponse(_error(status, message), status, headers)


def _error(status: int, message: str) -> dict[str, Any]:
    error = {"type": _ERROR_TYPES.get(status, "invalid_request_error"), "message": message}
    return {"type": "error", "error": error}


def parse_messages(
    body: Mapping[str, Any], known: Mapping[str, Field], max_chars: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The fields given in a body, and its messages as templates expect them: `system` first, turns of one role joined.

    Raises:
        RequestError: with every fault.
    """
    faults: list[FieldError] = []
    said = body.get("system") not in (None, "", []) and [{"role": "system", "content": body["system"]}]
    messages = _checked(said, "system", faults) if said else []
    for i, turn in enumerate(_checked(body.get("messages"), "messages", faults)):
        if turn["role"] not in ("user", "assistant"):
            faults.append(_fault(f"messages[{i}].role", "user or assistant (system is a field of its own)"))
        if turn["content"] is None:
            faults.append(_fault(f"messages[{i}].content", "a string, or a list of parts"))
        elif messages and messages[-1]["role"] == turn["role"]:
            messages[-1]["content"] += f"\n{turn['content']}"
        else:
            messages.append(turn)
    if sum(len(message["content"]) for message in messages) > max_chars:
        faults.append(_fault("messages", f"characters of all contents <= {max_chars}"))
    if body.get("receipt") not in (None, False):
        faults.append(_fault("receipt", "not given (/generate and /v1/chat/completions give receipts)"))
    required = known.keys() & {"max_tokens"}
    return check_fields(body, known, required=required, more_faults=faults, ignores_unknown=True), messages


def _fault(name: str, rule: str) -> FieldError:
    return FieldError(name, rule, f"{name}: expected {rule}")


def _checked(value: object, name: str, faults: list[FieldError]) -> list[dict[str, Any]]:
    try:
        return checked_messages(value, name)
    except RequestError as error:
        faults += error.errors
        return []


async def _read(request: Request, known: Mapping[str, Field]) -> tuple[dict[str, Any], Encode]:
    """The fields of a body, and what makes the prompt."""
    settings = request.app.state.service.settings
    body = await read_json_object(request, settings.max_body_bytes)
    given, messages = await asyncio.to_thread(parse_messages, body, known, settings.max_prompt_chars)
    return given, partial(_prompt_ids, messages)


def _prompt_ids(messages: list[dict[str, Any]], loaded: OpenModel) -> list[int]:
    """The chat as token ids; an assistant's turn at its end is the beginning of the answer."""
    begun = messages[-1]["content"] if messages[-1]["role"] == "assistant" else None
    turns = messages if begun is None else messages[:-1] or [{"role": "user", "content": ""}]
    return loaded.chat_template.prompt_ids(loaded.tokenizer, turns, begun=begun or "")


_ANSWER = stream_or_json("A `message`; with `stream` named events", properties(id="string", content="array"))


@router.post("/v1/messages", summary="Answer a chat", **_operation(_KNOWN, _ANSWER))
async def create_message(request: Request) -> Response:
    """The next message, in the model's own chat template."""
    given, encode = await _read(request, _KNOWN)
    model = served_name(request.app.state.service)
    head = {"id": new_id("msg"), "type": "message", "role": "assistant", "model": model}
    given["stop"], n = given.get("stop_sequences", []), given["max_tokens"]
    refuse_if(limit_faults(request.app.state.service.settings, "max_tokens", n))
    timeout_s = timeout_of(request, given.get("timeout"))
    asked = keywords_of_choices(request, given, [{"encode": encode}], head["id"], max_tokens=n)
    try:
        choices = await submit_choices(request.app.state.service, asked, timeout_s=timeout_s)
    except RequestError as error:
        raise renamed(error, _NAMES) from None
    if given.get("stream", False):
        return choices.stream(partial(_frames, head))
    end = (await choices.outcomes(request))[0].end
    content = [{"type": "text", "text": end.text}]
    return JSONResponse({**head, "content": content, **_ending(end), "usage": _usage(end.usage)})


_COUNT = {"content": {"application/json": {"schema": properties(input_tokens="integer")}}}


@router.post("/v1/messages/count_tokens", summary="Count tokens", **_operation(_COUNTED, _COUNT))
async def count_tokens(request: Request) -> dict[str, int]:
    """Tokens that `POST /v1/messages` would read."""
    _, encode = await _read(request, _COUNTED)
    return {"input_tokens": len(await asyncio.to_thread(encode, ready_model(request.app.state.service)))}


def _ending(end: EndEvent) -> dict[str, str | None]:
    reason = "stop_sequence" if end.matched_stop is not None else _STOP_REASONS[end.finish_reason]
    return {"stop_reason": reason, "stop_sequence": end.matched_stop}


def _usage(usage: Usage) -> dict[str, int]:
    n_cached = usage.cached_tokens
    read = {"input_tokens": usage.prompt_tokens - n_cached, "cache_read_input_tokens": n_cached}
    return {**read, "output_tokens": usage.completion_tokens}


def _event(name: str, **more: object) -> bytes:
    return sse_frame({"type": name, **more}, name)


def _frames(head: Mapping[str, Any], choice_event: ChoiceEvent) -> bytes:
    event = choice_event[1]
    if isinstance(event, StartedEvent):
        nothing: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        message = {**head, **nothing, "usage": _usage(Usage(event.prompt_tokens, 0, 0))}
        block = _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        return _event("message_start", message=message) + block + _event("ping")
    if isinstance(event, TokenEvent) and event.text:
        return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": event.text})
    if isinstance(event, EndEvent):
        end = _event("message_delta", delta=_ending(event), usage=_usage(event.usage))
        return _event("content_block_stop", index=0) + end + _event("message_stop")
    if isinstance(event, ErrorEvent):
        return sse_frame(_error(event_status(event), event.message), "error")
    return b""
