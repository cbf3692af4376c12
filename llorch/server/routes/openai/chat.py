"""`POST /v1/chat/completions`: the next message of a chat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from llorch.engine.service import EngineService
from llorch.errors import FieldError, RequestError
from llorch.open_model import OpenModel
from llorch.server.body import check_fields, read_json_object
from llorch.server.choices import submit_choices
from llorch.server.limits import capacity_faults, limit_faults, refuse_if, timeout_of
from llorch.server.ready import ready_model
from llorch.server.receipts import receipts_of
from llorch.server.routes.openai.answer import Answer
from llorch.server.routes.openai.chat_text import ChatText
from llorch.server.routes.openai.constraints import CONSTRAINTS
from llorch.server.routes.openai.errors import renamed
from llorch.server.routes.openai.fields import (
    CHAT,
    REFUSED_IN_CHATS,
    refused_faults,
)
from llorch.server.routes.openai.messages import plain_messages
from llorch.server.routes.openai.models import served_name
from llorch.server.routes.openai.requests import (
    keywords_of_choices,
    new_id,
)
from llorch.server.routes.openai.schemas import chat_operation, counted_operation
from llorch.server.routes.openai.structure import FREE, Structure, constraint_of, parse_structure, parsed

router = APIRouter(tags=["OpenAI"])

PROMPT_FIELDS = {
    name: CHAT[name]
    for name in (
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        *CONSTRAINTS,
        "add_generation_prompt",
        "continue_final_message",
        "chat_template_kwargs",
    )
}
"""Fields that the prompt depends on, beside the messages: and those that say whether there are tools in it."""

_NAMES = {"prompt": "messages", "token_ids": "messages", "job_id": "id"}


def parse_chat(body: Mapping[str, Any], max_prompt_chars: int) -> dict[str, Any]:
    """The fields given in a body of `POST /v1/chat/completions`, `messages` made plain; `structure` is of several.

    Raises:
        RequestError: with every fault of the body.
    """
    messages, faults = plain_messages(body.get("messages"), max_prompt_chars)
    if body.get("top_logprobs") and body.get("logprobs") is not True:
        faults.append(FieldError("top_logprobs", "with logprobs", "top_logprobs needs logprobs: true"))
    faults += refused_faults(body, REFUSED_IN_CHATS)
    if body.get("continue_final_message") is True:
        faults += _continuation_faults(body, messages)
    structure = parse_structure(body, faults, has_tools=True)
    given = check_fields(body, CHAT, more_faults=faults, ignores_unknown=True)
    return {**given, "messages": messages, **({} if structure == FREE else {"structure": structure})}


def _continuation_faults(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    """What keeps the last message from being the beginning of the answer; `messages` are none if they are at fault."""
    name = "continue_final_message"
    faults = []
    if body.get("add_generation_prompt") is True:
        faults.append(FieldError(name, "not both", f"{name} and add_generation_prompt exclude each other"))
    if messages and (len(messages) < 2 or messages[-1]["role"] != "assistant" or not messages[-1]["content"]):
        rule = "a text of the assistant as the last of several messages"
        faults.append(FieldError(name, rule, f"{name}: expected {rule}"))
    elif messages and "tool_calls" in messages[-1]:
        faults.append(FieldError(name, "no tool_calls", f"{name}: the last message must have no tool_calls"))
    return faults


@router.post("/v1/chat/completions", summary="Answer a chat", **chat_operation(CHAT))
async def create_chat_completion(request: Request) -> Response:
    """As OpenAI's: `n` answers to the messages, in the model's own chat template."""
    service: EngineService = request.app.state.service
    settings = service.settings
    body = await read_json_object(request, settings.max_body_bytes)
    given = await parsed(parse_chat, body, settings.max_prompt_chars)
    structure: Structure = given.get("structure", FREE)
    loaded = ready_model(service)
    n = given.get("n", 1)
    limit = "max_completion_tokens" if "max_completion_tokens" in given else "max_tokens"
    refuse_if(capacity_faults(n, n, settings) + limit_faults(settings, limit, given.get(limit)))
    timeout_s = timeout_of(request, given.get("timeout"))
    receipts = await receipts_of(request, given.get("receipt", False), timeout_s)
    has_logprobs = given.get("logprobs", False)
    answer = Answer(
        new_id("chatcmpl"),
        "chat.completion.chunk" if given.get("stream", False) else "chat.completion",
        served_name(service),
        n_choices=n,
        n=n,
        includes_usage=bool((given.get("stream_options") or {}).get("include_usage")),
    )
    asked = keywords_of_choices(
        request,
        given,
        [{"encode": prompt_encoder(given)}],
        answer.id,
        max_tokens=given.get(limit, -1),
        n_logprobs=given.get("top_logprobs", 0) if has_logprobs else None,
        constraint=await constraint_of(structure, loaded.structure),
        shown_ids=frozenset(loaded.structure.marks.values() if structure.has_tools else ()),
    )
    try:
        choices = await submit_choices(service, asked, timeout_s=timeout_s)
    except RequestError as error:
        raise renamed(error, _NAMES) from None
    receipts.are_for(choices.requests)
    text = ChatText(
        answer,
        loaded.tokenizer,
        choices.prompts,
        has_logprobs=has_logprobs,
        has_token_ids=given.get("return_token_ids", False),
        receipts=receipts,
        new_parser=lambda: structure.parser(loaded.structure),
    )
    if given.get("stream", False):
        return choices.stream(text.frames)
    outcomes = await choices.outcomes(request)
    is_slow = has_logprobs or structure.has_tools or receipts.is_asked_for
    content = await asyncio.to_thread(text.body, outcomes) if is_slow else text.body(outcomes)
    return Response(content, media_type="application/json")


@router.post("/v1/chat/completions/input_tokens", summary="Count tokens", **counted_operation(PROMPT_FIELDS))
async def count_input_tokens(request: Request) -> dict[str, str | int]:
    """Tokens that `POST /v1/chat/completions` would read; other fields than those that matter are not looked at."""
    service: EngineService = request.app.state.service
    given = await read_prompt(request, service.settings.max_prompt_chars)
    try:
        token_ids = await counted_prompt(given, ready_model(service))
    except RequestError as error:
        raise renamed(error, _NAMES) from None
    return {"object": "response.input_tokens", "input_tokens": len(token_ids)}


async def counted_prompt(given: Mapping[str, Any], loaded: OpenModel) -> Sequence[int]:
    """The prompt of a chat that nobody answers.

    Raises:
        RequestError: there is none, or its tools or its form would be refused with the answer.
    """
    await check_structure(given, loaded)
    return await asyncio.to_thread(prompt_encoder(given), loaded)


async def check_structure(given: Mapping[str, Any], loaded: OpenModel) -> None:
    """Raise what a chat with these checked fields would be refused with because of its tools or its form.

    Raises:
        RequestError: the model cannot call tools, or the answer cannot be bound to their schemas, or to its own.
    """
    await constraint_of(given.get("structure", FREE), loaded.structure)


async def read_prompt(request: Request, max_prompt_chars: int) -> dict[str, Any]:
    """The fields of a body that say the prompt of a chat, checked as `parse_chat` does; others are not looked at.

    Raises:
        RequestError: with every fault of them.
    """
    body = await read_json_object(request, request.app.state.service.settings.max_body_bytes)
    body = {name: value for name, value in body.items() if name == "messages" or name in PROMPT_FIELDS}
    return await parsed(parse_chat, body, max_prompt_chars)


def template_arguments(given: Mapping[str, Any], loaded: OpenModel) -> dict[str, Any]:
    """What the methods of `ChatTemplate` take of the checked fields of a chat."""
    structure: Structure = given.get("structure", FREE)
    said, begun = given["messages"], ""
    if given.get("continue_final_message", False):
        *said, last = said
        begun = last["content"]
    messages, tools = structure.prompt_of(loaded.structure, said)
    return {
        "messages": messages,
        "tools": tools,
        "add_generation_prompt": bool(begun) or given.get("add_generation_prompt", True),
        "variables": given.get("chat_template_kwargs", {}),
        "begun": begun,
    }


def prompt_encoder(given: Mapping[str, Any]) -> Callable[[OpenModel], Sequence[int]]:
    """What makes the prompt of a chat; called for each choice, it works once."""
    made: list[Sequence[int]] = []

    def encode(loaded: OpenModel) -> Sequence[int]:
        if not made:
            arguments = template_arguments(given, loaded)
            made.append(loaded.chat_template.prompt_ids(loaded.tokenizer, **arguments))
        return made[0]

    return encode
