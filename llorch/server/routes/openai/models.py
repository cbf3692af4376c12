"""`GET /v1/models`: the one model there is."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from llorch.engine.service import EngineService
from llorch.errors import FieldError
from llorch.server.errors import HTTPRefusalError
from llorch.server.ready import ready_model
from llorch.server.routes.openai.schemas import MODEL_OPERATION, MODELS_OPERATION

router = APIRouter(tags=["OpenAI"])

_CREATED = int(time.time())
"""OpenAI says when a model was made; of a file nobody knows, so this is when the program was started."""


def served_name(service: EngineService) -> str:
    """What answers call the model: the setting `alias`, else what its file calls itself."""
    return service.settings.alias or ready_model(service).name


def model_json(service: EngineService) -> dict[str, Any]:
    """The model as OpenAI shows it, with vLLM's `max_model_len` and llama-server's `meta`."""
    loaded = ready_model(service)
    config, tensors = loaded.config, loaded.source.tensors.values()
    return {
        "id": served_name(service),
        "object": "model",
        "created": _CREATED,
        "owned_by": "llorch",
        "max_model_len": service.n_ctx,
        "meta": {
            "n_vocab": config.n_vocab,
            "n_ctx": service.n_ctx,
            "n_ctx_train": config.n_ctx_train,
            "n_embd": config.n_embd,
            "n_params": sum(tensor.n_elements for tensor in tensors),
            "size": sum(tensor.n_bytes for tensor in tensors),
        },
    }


@router.get("/v1/models", summary="List the model", **MODELS_OPERATION)
async def list_models(request: Request) -> dict[str, Any]:
    """A list of one."""
    return {"object": "list", "data": [model_json(request.app.state.service)]}


@router.get("/v1/models/{model:path}", summary="Show the model", **MODEL_OPERATION)
async def retrieve_model(request: Request, model: str) -> dict[str, Any]:
    """The model, by the name that `/v1/models` lists; requests for texts may say any name."""
    service: EngineService = request.app.state.service
    if model != served_name(service):
        message = "there is no model of this name; GET /v1/models lists the one there is"
        raise HTTPRefusalError(404, FieldError("model", "the served model's name", message))
    return model_json(service)
