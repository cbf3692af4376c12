"""All paths of llama-server in one router."""

from __future__ import annotations

from fastapi import APIRouter

from llorch.server.routes.llama_server import completion, state, template, tokens

router = APIRouter()
for _part in (completion, state, template, tokens):
    router.include_router(_part.router)
