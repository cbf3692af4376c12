"""All paths of llama-server in one router."""

from __future__ import annotations

from fastapi import APIRouter

from llorch.server.routes.llama_server import completion, tokens

router = APIRouter()
for _part in (completion, tokens):
    router.include_router(_part.router)
