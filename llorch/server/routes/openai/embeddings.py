"""`POST /v1/embeddings`: a vector for each of some texts."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
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
from llorch.server.body import check_fields, read_json_object
from llorch.server.embeddings import Embedded, Encode, embed
from llorch.server.limits import refuse_if, timeout_of
from llorch.server.ready import ready_model
from llorch.server.routes.openai.fields import EMBEDDING
from llorch.server.routes.openai.kinds import length_faults, prompt_list
from llorch.server.routes.openai.models import served_name
from llorch.server.routes.openai.schemas import embedding_operation
from llorch.server.streaming import json_text

router = APIRouter(tags=["OpenAI"])


def parse_embedding(body: Mapping[str, Any], max_prompt_chars: int) -> dict[str, Any]:
    """The fields given in a body of `POST /v1/embeddings`.

    Raises:
        RequestError: with every fault of the body.
    """
    faults = length_faults(body.get("input"), max_prompt_chars, "input")
    return check_fields(body, EMBEDDING, required=("input",), more_faults=faults, ignores_unknown=True)


@router.post("/v1/embeddings", summary="Make vectors of texts", **embedding_operation(EMBEDDING))
async def create_embedding(request: Request) -> Response:
    """As OpenAI's: an `embedding` for each input, in their order; its length is 1."""
    service: EngineService = request.app.state.service
    settings = service.settings
    body = await read_json_object(request, settings.max_body_bytes)
    given = await asyncio.to_thread(parse_embedding, body, settings.max_prompt_chars)
    name, n_embd = served_name(service), ready_model(service).config.n_embd
    refuse_if(_dimension_faults(given.get("dimensions"), n_embd))
    embedded = await embed(
        request,
        [_encoder(one) for one in prompt_list(given["input"])],
        pooling=given.get("pooling", settings.pooling),
        timeout_s=timeout_of(request, given.get("timeout")),
    )
    write = base64_json if given.get("encoding_format") == "base64" else floats_json
    content = await asyncio.to_thread(_content, embedded, name, write)
    return Response(content, media_type="application/json")


def _dimension_faults(dimensions: int | None, n_embd: int) -> list[FieldError]:
    if dimensions in (None, n_embd):
        return []
    rule = f"dimensions = {n_embd}"
    message = f"dimensions: expected {n_embd}, the size of this model's vectors; got {dimensions}"
    return [FieldError("dimensions", rule, message)]


def _encoder(prompt: str | Sequence[int]) -> Encode:
    if isinstance(prompt, str):
        return partial(_encoded, prompt)
    return lambda _: prompt


def _encoded(text: str, tokenizer: Any) -> Sequence[int]:
    return encode_prompt(tokenizer, text)


def floats_json(vector: NDArray[np.float32]) -> str:
    """A vector as a JSON array; each number is exactly the float32."""
    return json.dumps(vector.tolist(), separators=(",", ":"))


def base64_json(vector: NDArray[np.float32]) -> str:
    """The bytes of a vector, float32 in little-endian order, in base64."""
    return f'"{base64.b64encode(vector.astype("<f4").tobytes()).decode()}"'


def _content(embedded: Embedded, model: str, write: Any) -> bytes:
    """The answer, without a Python number for each of those in it: there may be millions."""
    data = ",".join(
        f'{{"object":"embedding","index":{i},"embedding":{write(vector)}}}'
        for i, vector in enumerate(embedded.vectors)
    )
    usage = json_text({"prompt_tokens": embedded.n_tokens, "total_tokens": embedded.n_tokens})
    return f'{{"object":"list","data":[{data}],"model":{json_text(model)},"usage":{usage}}}'.encode()
