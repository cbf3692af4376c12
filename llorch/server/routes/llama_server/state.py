"""`GET /props`, `GET /slots`, `GET /v1/health`: what the server is and does, in llama-server's words.

Neither shows any text: with several API keys, it may be somebody else's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from llorch.engine.params import SamplingParams
from llorch.engine.service import EngineService
from llorch.engine.snapshot import EngineSnapshot, SlotSnapshot
from llorch.errors import FieldError
from llorch.server.errors import HTTPRefusalError
from llorch.server.openapi import properties
from llorch.server.ready import ready_model
from llorch.server.routes.llama_server.descriptions import NOT_READY, answer
from llorch.server.routes.llama_server.generation_settings import generation_settings
from llorch.server.routes.llama_server.tokens import special_text
from llorch.version import __version__

router = APIRouter(tags=["llama-server"])

_PROPS = properties(
    default_generation_settings="object",
    total_slots="integer",
    model_alias="string",
    model_path="string",
    chat_template="string",
    build_info="string",
)

_SLOTS = {"type": "array", "items": properties(id="integer", n_ctx="integer", is_processing="boolean")}
_FAIL = {
    "name": "fail_on_no_slot",
    "in": "query",
    "schema": {"type": "string"},
    "description": "503 if no place is free",
}


@router.get("/props", summary="What the server serves, and how", responses=answer(_PROPS) | NOT_READY)
async def props(request: Request) -> dict[str, Any]:
    """The model, the defaults of requests, the memory there is for them."""
    service: EngineService = request.app.state.service
    loaded, settings = ready_model(service), service.settings
    vocab, template = loaded.tokenizer.vocab, loaded.chat_template
    defaults = generation_settings(
        SamplingParams.from_settings(settings), n_predict=settings.n_predict, seed=-1
    )
    return {
        "default_generation_settings": {"params": defaults, "n_ctx": service.n_ctx},
        "total_slots": settings.parallel,
        "model_alias": settings.alias or loaded.name,
        "model_path": settings.model,
        "modalities": {"vision": False, "video": False, "audio": False},
        "endpoint_slots": True,
        "endpoint_props": False,
        "endpoint_metrics": True,
        "ui": settings.page,
        "chat_template": template.source,
        "chat_template_caps": {
            "supports_system_role": template.supports_system,
            "supports_tools": template.supports_tools,
        },
        "bos_token": special_text(loaded.tokenizer, vocab.bos_id) or "",
        "eos_token": special_text(loaded.tokenizer, vocab.eos_id) or "",
        "build_info": f"llorch {__version__}",
        "is_sleeping": False,
        "memory": _memory(service),
    }


def _memory(service: EngineService) -> dict[str, int]:
    """Bytes of the weights, positions of the KV cache: all there are, those in use, those kept for prompts to come."""
    snapshot = service.snapshot()
    assert snapshot is not None  # it is ready
    size = snapshot.block_size
    return {
        "weights_bytes": sum(tensor.n_bytes for tensor in ready_model(service).source.tensors.values()),
        "kv_positions": snapshot.n_blocks * size,
        "kv_positions_used": snapshot.n_used_blocks * size,
        "kv_positions_kept": snapshot.n_kept_blocks * size,
    }


@router.get(
    "/slots",
    summary="What runs now",
    responses=answer(_SLOTS) | NOT_READY,
    openapi_extra={"parameters": [_FAIL]},
)
async def slots(request: Request) -> list[dict[str, Any]]:
    """A member for each place; with `fail_on_no_slot=1`, 503 if none is free."""
    service: EngineService = request.app.state.service
    ready_model(service)
    snapshot = service.snapshot()
    assert snapshot is not None  # it is ready
    if request.query_params.get("fail_on_no_slot") and snapshot.n_running >= snapshot.n_slots:
        raise HTTPRefusalError(503, FieldError("slots", "a free slot", "no slot is available"))
    running = {slot.slot: slot for slot in snapshot.slots}
    return [_slot_json(i, snapshot, running.get(i)) for i in range(snapshot.n_slots)]


def _slot_json(index: int, snapshot: EngineSnapshot, slot: SlotSnapshot | None) -> dict[str, Any]:
    """A place, and the generation in it."""
    place = {"id": index, "n_ctx": snapshot.n_ctx, "speculative": False, "is_processing": slot is not None}
    if slot is None:
        return place
    request = slot.request
    return {
        **place,
        "n_prompt_tokens": slot.n_prompt,
        "n_prompt_tokens_processed": slot.n_prompt_done - slot.n_cached,
        "n_prompt_tokens_cache": slot.n_cached,
        "params": generation_settings(
            dataclasses.replace(request.params, logit_bias={}),  # it may spell somebody's words
            n_predict=request.max_tokens,
            seed=slot.seed,
            ignore_eos=request.ignore_eos,
            n_probs=request.n_logprobs or 0,
        ),
        "next_token": [
            {
                "has_next_token": not slot.is_prefilling,
                "n_remain": max(request.max_tokens - slot.n_generated, 0),
                "n_decoded": slot.n_generated,
            }
        ],
    }


async def health() -> dict[str, str]:
    """As `/health`: always 200; needs no key."""
    return {"status": "ok"}


router.add_api_route("/v1/health", health, methods=["GET", "HEAD"], include_in_schema=False)
