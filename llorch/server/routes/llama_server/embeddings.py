"""`POST /embedding`, also called `/embeddings`: a vector for each prompt, as llama-server answers.

Source: llama.cpp 0.5.0-dev, `tools/server/server-context.cpp`, `handle_embeddings_impl`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from llorch.embedding.pooling import EUCLIDEAN
from llorch.engine.service import EngineService
from llorch.errors import FieldError
from llorch.fields.field import Field
from llorch.fields.kinds import choice, integer
from llorch.fields.table import FIELDS
from llorch.server.body import check_fields, object_schema, read_json_object
from llorch.server.embeddings import MAX_INPUTS, Embedded, embed
from llorch.server.limits import timeout_of
from llorch.server.openapi import json_body, properties
from llorch.server.routes.llama_server.descriptions import REFUSALS_OF_TEXTS, answer
from llorch.server.routes.llama_server.prompts import (
    Prompt,
    prompt_faults,
    prompt_ids,
    prompt_schema,
    prompts_of,
)
from llorch.server.routes.openai.embeddings import floats_json
from llorch.text.tokenizer import Tokenizer

router = APIRouter(tags=["llama-server"])

MAX_NORM = 1000
"""Largest p of a p-norm."""

_FIELDS = {
    entry.name: entry
    for entry in (
        Field(
            "embd_normalize",
            integer(-1, MAX_NORM),
            EUCLIDEAN,
            words="vectors have length 1 by this norm: 2, Euclid's, or another p; 0: the largest value is 32760; "
            "-1: they are not scaled",
        ),
        Field("pooling", choice("mean", "last"), None, words="how; default: the setting `pooling`"),
        Field(
            "encoding_format",
            choice("float", "base64"),
            "float",
            words="of no effect here, as in llama-server",
        ),
        Field("timeout", FIELDS["timeout_s"].kind, None, words=FIELDS["timeout_s"].words),
    )
}


def embedding_schema() -> dict[str, Any]:
    """JSON schema of a body: with prompts, in one of two fields."""
    schema = object_schema(_FIELDS)
    prompts = prompt_schema(MAX_INPUTS)
    return {
        "type": "object",
        "properties": {
            **schema["properties"],
            "input": {},
            "content": {"description": "older name of `input`"},
        },
        "anyOf": [
            {"required": ["input"], "properties": {"input": prompts}},
            {"required": ["content"], "properties": {"input": {"type": "null"}, "content": prompts}},
        ],
    }


@router.post(
    "/embedding",
    summary="Make vectors of texts",
    responses=answer({"type": "array", "items": properties(index="integer", embedding="array")})
    | REFUSALS_OF_TEXTS,
    openapi_extra=json_body(embedding_schema()),
)
@router.post("/embeddings", include_in_schema=False)
async def embedding(request: Request) -> Response:
    """An array with one object for each prompt; its `embedding` is an array that holds one vector."""
    service: EngineService = request.app.state.service
    settings = service.settings
    body = await read_json_object(request, settings.max_body_bytes)
    name = "content" if body.get("input") is None and body.get("content") is not None else "input"
    given = await asyncio.to_thread(_parse, body, name, settings.max_prompt_chars)
    embedded = await embed(
        request,
        [partial(_encoded, prompt) for prompt in prompts_of(body[name])],
        pooling=given.get("pooling", settings.pooling),
        norm=given.get("embd_normalize", EUCLIDEAN),
        timeout_s=timeout_of(request, given.get("timeout")),
        name=name,
    )
    return Response(await asyncio.to_thread(_content, embedded), media_type="application/json")


def _parse(body: dict[str, Any], name: str, max_prompt_chars: int) -> dict[str, Any]:
    """The fields given beside the prompts, which are in the field `name`."""
    if body.get(name) is None:
        faults = [FieldError("input", "input or content", "give the text as input, or as content")]
    else:
        faults = prompt_faults(body[name], max_prompt_chars, name, most=MAX_INPUTS)
    return check_fields(body, _FIELDS, more_faults=faults, ignores_unknown=True)


def _encoded(prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    return prompt_ids(tokenizer, prompt)


def _content(embedded: Embedded) -> bytes:
    items = (
        f'{{"index":{i},"embedding":[{floats_json(vector)}]}}' for i, vector in enumerate(embedded.vectors)
    )
    return f"[{','.join(items)}]".encode()
