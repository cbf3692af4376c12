"""What Ollama's clients ask about models: the list of one, what it is, that it is loaded."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from llorch.convert.general_metadata import size_label
from llorch.convert.mixtures import FILE_TYPES
from llorch.engine.params import SamplingParams
from llorch.engine.service import EngineService
from llorch.errors import FieldError
from llorch.fields.field import Field
from llorch.open_model import OpenModel
from llorch.server.body import check_fields
from llorch.server.errors import HTTPRefusalError
from llorch.server.openapi import ASKED, POSTED, json_body, properties, refusals
from llorch.server.ready import ready_model
from llorch.server.routes.ollama.fields import ENGINE_NAMES, ERRORS, OPTIONS
from llorch.server.routes.ollama.lines import read_object
from llorch.server.routes.openai.kinds import NAME
from llorch.server.routes.openai.models import served_name
from llorch.version import __version__

API_VERSION = "0.13.0"
"""The Ollama whose API this is: clients look whether it is new enough for them."""
NEVER = "2300-01-01T00:00:00Z"
"""When the model will be unloaded."""

router = APIRouter(tags=["Ollama"])
_SHOWN = {name: Field(name, NAME, None, words="any name: there is one model") for name in ("model", "name")}


def _asked(**answer: str) -> dict[str, Any]:
    said = {"description": "What there is", "content": {"application/json": {"schema": properties(**answer)}}}
    return {"responses": {200: said, **refusals(ASKED, ERRORS)}}


@router.get("/api/version", summary="The version of this API", **_asked(version="string", llorch="string"))
async def version() -> dict[str, str]:
    """That of the Ollama whose API this is, and of the server."""
    return {"version": API_VERSION, "llorch": __version__}


@router.get("/api/tags", summary="List the model", **_asked(models="array"))
async def tags(request: Request) -> dict[str, Any]:
    """A list of one."""
    model = await asyncio.to_thread(_model_json, request.app.state.service)
    return {"models": [model]}


@router.get("/api/ps", summary="List the loaded model", **_asked(models="array"))
async def loaded_models(request: Request) -> dict[str, Any]:
    """A list of the same one: it stays loaded."""
    service: EngineService = request.app.state.service
    model = await asyncio.to_thread(_model_json, service)
    del model["modified_at"]
    return {"models": [{**model, "expires_at": NEVER, "size_vram": 0, "context_length": service.n_ctx}]}


_ABOUT = properties(details="object", model_info="object", template="string", capabilities="array")
_BODY = {"type": "object", "properties": {name: {"type": ["string", "null"]} for name in _SHOWN}}


@router.post(
    "/api/show",
    summary="Show the model",
    responses={
        200: {"description": "What it is", "content": {"application/json": {"schema": _ABOUT}}},
        **refusals(POSTED, ERRORS),
    },
    openapi_extra=json_body(_BODY),
)
async def show(request: Request) -> dict[str, Any]:
    """The one model, whatever name is asked for, as in requests for texts."""
    service: EngineService = request.app.state.service
    check_fields(await read_object(request), _SHOWN, ignores_unknown=True)
    loaded = ready_model(service)
    defaults = SamplingParams.from_settings(service.settings)
    parameters = [
        f"{name:<30} {getattr(defaults, ENGINE_NAMES.get(name, name))}"
        for name in OPTIONS
        if hasattr(defaults, ENGINE_NAMES.get(name, name)) and name != "seed"
    ]
    license_words = loaded.source.metadata.get("general.license")
    return {
        "modelfile": f"FROM {tagged_name(service)}\n",
        "parameters": "\n".join(parameters),
        "template": loaded.chat_template.source,
        **({"license": license_words} if isinstance(license_words, str) else {}),
        "details": _details(loaded),
        "model_info": _info(loaded),
        "capabilities": ["completion", *(["tools"] if loaded.structure.tool_format is not None else [])],
        "modified_at": _modified_at(loaded),
    }


async def no_store(request: Request) -> None:
    """Refuse what changes a store of models: there is none.

    Raises:
        HTTPRefusalError: always.
    """
    message = (
        "this server has one model and no store of models; llorch pull and llorch serve -m take another one"
    )
    raise HTTPRefusalError(501, FieldError("path", "a path of this server", message))


for _path in ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/{digest}"):
    router.add_api_route(_path, no_store, methods=["POST", "DELETE", "HEAD"], include_in_schema=False)


def tagged_name(service: EngineService) -> str:
    """The model's name with a tag, as all names there have one."""
    name = served_name(service)
    return name if ":" in name else f"{name}:latest"


def _model_json(service: EngineService) -> dict[str, Any]:
    loaded = ready_model(service)
    name = tagged_name(service)
    return {
        "name": name,
        "model": name,
        "modified_at": _modified_at(loaded),
        "size": sum(info.n_bytes for info in loaded.source.tensor_infos.values()),
        "digest": _digest(loaded),
        "details": _details(loaded),
    }


def _modified_at(loaded: OpenModel) -> str:
    """When the file or directory was last changed; the time of nobody's change if it is gone."""
    try:
        seconds = loaded.source.path.stat().st_mtime
    except OSError:
        seconds = 0.0
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _digest(loaded: OpenModel) -> str:
    """SHA-256 of what the model says of itself: names, types and shapes of tensors, and the simple metadata.

    It tells models apart, and takes no time; `receipt` has the digest of the whole file.
    """
    tensors = [(info.name, info.type_name, info.shape) for info in loaded.source.tensor_infos.values()]
    return hashlib.sha256(repr((tensors, sorted(_info(loaded).items()))).encode()).hexdigest()


def _details(loaded: OpenModel) -> dict[str, Any]:
    is_gguf = loaded.source.path.suffix == ".gguf"
    return {
        "parent_model": "",
        "format": "gguf" if is_gguf else loaded.source.path.suffix.lstrip(".") or "safetensors",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": size_label(_n_params(loaded)),
        "quantization_level": _quantization(loaded),
    }


def _n_params(loaded: OpenModel) -> int:
    return sum(tensor.n_elements for tensor in loaded.source.tensors.values())


def _quantization(loaded: OpenModel) -> str:
    """What the file calls its mixture of types, else the type of most of its bytes."""
    number = loaded.source.metadata.get("general.file_type")
    for row in FILE_TYPES:
        if row.number == number:
            return row.name
    n_bytes: Counter[str] = Counter()
    for info in loaded.source.tensor_infos.values():
        n_bytes[info.type_name] += info.n_bytes
    return n_bytes.most_common(1)[0][0]


def _info(loaded: OpenModel) -> dict[str, Any]:
    """The metadata of the file that are numbers, words or truth values, but for the template, which stands alone."""
    found: dict[str, Any] = {
        key: value
        for key, value in loaded.source.metadata.items()
        if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
        if not key.startswith("tokenizer.chat_template")
    }
    return {**found, "general.parameter_count": _n_params(loaded)}
