"""`POST /api/embed` and its older form `POST /api/embeddings`: vectors of texts."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from llorch.engine.request import encode_prompt
from llorch.engine.service import EngineService
from llorch.errors import FieldError
from llorch.fields.kinds import described
from llorch.server.body import check_fields
from llorch.server.embeddings import MAX_INPUTS, Embedded, embed
from llorch.server.limits import timeout_of
from llorch.server.openapi import properties
from llorch.server.routes.ollama.fields import EMBED, EMBEDDINGS, operation
from llorch.server.routes.ollama.lines import read_object
from llorch.server.routes.openai.embeddings import floats_json
from llorch.server.routes.openai.kinds import length_faults
from llorch.server.routes.openai.models import served_name
from llorch.server.streaming import json_text
from llorch.text.tokenizer import Tokenizer

router = APIRouter(tags=["Ollama"])
_VECTORS = properties(model="string", embeddings="array", prompt_eval_count="integer")
_AS_IT_IS = -1
"""The norm of a vector that is not scaled."""


@router.post("/api/embed", summary="Make vectors of texts", **operation(EMBED, _VECTORS, streams=False))
async def embed_texts(request: Request) -> Response:
    """As Ollama's: a vector of length 1 for each text, in their order."""
    begun_s = time.monotonic()
    service: EngineService = request.app.state.service
    body = await read_object(request)
    given = await asyncio.to_thread(_checked, body, service.settings.max_prompt_chars)
    texts = given.get("input", [])
    embedded = Embedded([], 0)
    if texts:
        texts = [texts] if isinstance(texts, str) else texts
        most = service.n_ctx if given.get("truncate", True) else None
        embedded = await embed(
            request,
            [partial(_encoded, text, most) for text in texts],
            pooling=service.settings.pooling,
            timeout_s=timeout_of(request, None),
        )
    content = await asyncio.to_thread(_content, embedded, given.get("dimensions", 0))
    total = round((time.monotonic() - begun_s) * 1e9)
    head = json_text({"model": served_name(service), "total_duration": total, "load_duration": 1})
    counted = f'"prompt_eval_count":{embedded.n_tokens}'
    return Response(f'{head[:-1]},"embeddings":[{content}],{counted}}}', media_type="application/json")


@router.post(
    "/api/embeddings",
    summary="Make a vector of a text",
    **operation(EMBEDDINGS, properties(embedding="array"), streams=False),
)
async def embed_prompt(request: Request) -> Response:
    """As Ollama's older path: the vector as the model makes it, cut to the context; none of an empty prompt."""
    service: EngineService = request.app.state.service
    body = await read_object(request)
    faults = length_faults(body.get("prompt"), service.settings.max_prompt_chars)
    prompt = check_fields(body, EMBEDDINGS, more_faults=faults, ignores_unknown=True).get("prompt")
    numbers = "[]"
    if prompt:
        embedded = await embed(
            request,
            [partial(_encoded, prompt, service.n_ctx)],
            pooling=service.settings.pooling,
            norm=_AS_IT_IS,
            timeout_s=timeout_of(request, None),
            name="prompt",
        )
        numbers = floats_json(embedded.vectors[0])
    return Response(f'{{"embedding":{numbers}}}', media_type="application/json")


def _checked(body: dict[str, Any], max_prompt_chars: int) -> dict[str, Any]:
    """The fields given in a body of `POST /api/embed`."""
    value = body.get("input")
    faults = length_faults(value, max_prompt_chars, "input")
    is_list = isinstance(value, list) and len(value) <= MAX_INPUTS and all(map(_is_text, value))
    if not (value is None or value == "" or _is_text(value) or is_list):
        rule = f"a text, or a list of up to {MAX_INPUTS} texts, none of which is empty"
        faults.append(FieldError("input", rule, f"input: expected {rule}; got {described(value)}"))
    return check_fields(body, EMBED, more_faults=faults, ignores_unknown=True)


def _is_text(value: object) -> bool:
    """Whether `value` is a text without lone surrogates, not the empty one."""
    return isinstance(value, str) and bool(value) and not any("\ud800" <= c <= "\udfff" for c in value)


def _encoded(text: str, most: int | None, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The first `most` token ids of `text`."""
    return encode_prompt(tokenizer, text)[:most]


def _content(embedded: Embedded, n: int) -> str:
    """The vectors, of each the first `n` numbers if it is not 0, with length 1 again."""
    return ",".join(floats_json(_cut(vector, n)) for vector in embedded.vectors)


def _cut(vector: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    if not 0 < n < len(vector):
        return vector
    part = vector[:n].astype(np.float64)
    length = np.linalg.norm(part)
    return (part / length if length else part).astype(np.float32)
