"""All paths of Ollama's API in one router."""

from __future__ import annotations

from fastapi import APIRouter

from llorch.server.routes.ollama import models, text, vectors

router = APIRouter()
for _part in (models, text, vectors):
    router.include_router(_part.router)
