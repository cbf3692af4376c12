"""`POST /tokenize`, `POST /detokenize`, `GET /tokenizer_info`: between text and ids, as llama-server and vLLM do.

lm-evaluation-harness needs all three where it has no tokenizer of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from llorch.engine.service import EngineService
from llorch.errors import FieldError, InputError, RequestError
from llorch.fields.field import Field
from llorch.fields.kinds import BOOLEAN
from llorch.fields.token_kinds import TOKEN_ID_SCHEMA, token_ids
from llorch.server.body import check_fields, object_schema, read_json_object
from llorch.server.openapi import json_body, properties
from llorch.server.ready import ready_model
from llorch.server.routes.llama_server.descriptions import NOT_READY, REFUSALS, answer
from llorch.server.routes.llama_server.prompts import (
    Prompt,
    one_prompt_faults,
    parts_of,
    prompt_ids,
    shown_text,
)
from llorch.text.tokenizer import Tokenizer

router = APIRouter(tags=["llama-server"])

_FLAGS = {
    flag.name: flag
    for flag in (
        Field(
            "add_special", BOOLEAN, False, words="put BOS in front of `content`, where the model wants one"
        ),
        Field("add_special_tokens", BOOLEAN, True, words="the same for `prompt`"),
        Field("parse_special", BOOLEAN, True, words="recognise control tokens in the text"),
        Field("with_pieces", BOOLEAN, False, words="each token as `id` and `piece`: its text, or its bytes"),
    )
}
_TOKENS = {"tokens": Field("tokens", token_ids(), None, words="ids")}


def _tokenize_schema() -> dict[str, Any]:
    flags = object_schema(_FLAGS)["properties"]
    content = {"type": ["string", "array"], "items": {"anyOf": [{"type": "string"}, TOKEN_ID_SCHEMA]}}
    texts = {
        "content": {"description": "the text (llama-server)"},
        "prompt": {"description": "the text (vLLM)"},
    }
    by_content = {"required": ["content"], "properties": {"content": content}}
    by_prompt = {
        "required": ["prompt"],
        "properties": {"content": {"type": "null"}, "prompt": {"type": "string"}},
    }
    return {"type": "object", "properties": texts | flags, "anyOf": [by_content, by_prompt]}


def _detokenize_schema() -> dict[str, Any]:
    tokens = {"type": "array", "items": TOKEN_ID_SCHEMA, "description": "ids"}
    return {"type": "object", "properties": {"tokens": tokens}, "required": ["tokens"]}


@router.post(
    "/tokenize",
    summary="Token ids of a text",
    responses=answer(properties(tokens="array", count="integer", max_model_len="integer")) | REFUSALS,
    openapi_extra=json_body(_tokenize_schema()),
)
async def tokenize(request: Request) -> Response:
    """`content` is llama-server's name of the text, `prompt` vLLM's, which gets BOS unless it says otherwise."""
    service: EngineService = request.app.state.service
    body = await read_json_object(request, service.settings.max_body_bytes)
    return await asyncio.to_thread(_tokenized, service, body)


def _tokenized(service: EngineService, body: dict[str, Any]) -> Response:
    name, add_special = "content", "add_special"
    if body.get("content") is None and body.get("prompt") is not None:
        name, add_special = "prompt", "add_special_tokens"
    faults = _text_faults(body.get(name), name)
    given = check_fields(body, _FLAGS, more_faults=faults, ignores_unknown=True)
    flags = {flag.name: given.get(flag.name, flag.default) for flag in _FLAGS.values()}
    tokens = _tokens(
        ready_model(service).tokenizer,
        tuple(parts_of(body[name])),
        add_special=flags[add_special],
        parse_special=flags["parse_special"],
        with_pieces=flags["with_pieces"],
    )
    return JSONResponse({"tokens": tokens, "count": len(tokens), "max_model_len": service.n_ctx})


def _text_faults(value: object, name: str) -> list[FieldError]:
    """What is wrong with the text; its length is limited by that of the body."""
    if value is None:
        return [FieldError(name, "content or prompt", "give the text as content, or as prompt")]
    return one_prompt_faults(value, None, name)


def _tokens(
    tokenizer: Tokenizer, prompt: Prompt, *, add_special: bool, parse_special: bool, with_pieces: bool
) -> list[int] | list[dict[str, Any]]:
    ids = prompt_ids(tokenizer, prompt, add_special=add_special, parse_special=parse_special)
    n_vocab = tokenizer.vocab.n_vocab
    if any(token_id >= n_vocab for token_id in ids):
        message = f"content: expected ids of the vocabulary, 0 <= id < {n_vocab}"
        raise RequestError([FieldError("content", f"0 <= id < {n_vocab}", message)])
    if not with_pieces:
        return ids
    return [{"id": token_id, "piece": _piece(tokenizer, token_id)} for token_id in ids]


def _piece(tokenizer: Tokenizer, token_id: int) -> str | list[int]:
    """The text of a token; its bytes where they are no text by themselves."""
    piece = tokenizer.token_bytes(token_id, special=True)
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


@router.post(
    "/detokenize",
    summary="Text of token ids",
    responses=answer(properties(content="string", prompt="string")) | REFUSALS,
    openapi_extra=json_body(_detokenize_schema()),
)
async def detokenize(request: Request) -> Response:
    """The text is `content` to llama-server's clients and `prompt` to vLLM's; control tokens are shown."""
    service: EngineService = request.app.state.service
    body = await read_json_object(request, service.settings.max_body_bytes)
    return await asyncio.to_thread(_detokenized, service, body)


def _detokenized(service: EngineService, body: dict[str, Any]) -> Response:
    is_empty = body.get("tokens") == []
    tokens = [] if is_empty else check_fields(body, _TOKENS, required=_TOKENS, ignores_unknown=True)["tokens"]
    try:
        text = shown_text(ready_model(service).tokenizer, tokens)
    except InputError as error:
        raise RequestError([FieldError("tokens", "ids of the vocabulary", str(error))]) from None
    return JSONResponse({"content": text, "prompt": text})


@router.get("/tokenizer_info", summary="What a client must know about the tokenizer", responses=NOT_READY)
async def tokenizer_info(request: Request) -> dict[str, Any]:
    """Special tokens as text, and the chat template, as vLLM gives them."""
    service: EngineService = request.app.state.service
    loaded = ready_model(service)
    tokenizer, vocab = loaded.tokenizer, loaded.tokenizer.vocab
    return {
        "tokenizer_class": vocab.model,
        "bos_token": special_text(tokenizer, vocab.bos_id),
        "eos_token": special_text(tokenizer, vocab.eos_id),
        "pad_token": special_text(tokenizer, vocab.eos_id),
        "unk_token": special_text(tokenizer, vocab.unk_id),
        "add_bos_token": vocab.add_bos,
        "add_eos_token": vocab.add_eos,
        "model_max_length": service.n_ctx,
        "chat_template": loaded.chat_template.source,
    }


def special_text(tokenizer: Tokenizer, token_id: int | None) -> str | None:
    """How the vocabulary spells a special token; None where there is none."""
    return None if token_id is None else tokenizer.piece(token_id)
