"""All routes of OpenAI's API."""

from __future__ import annotations

from fastapi import APIRouter

from llorch.server.routes.openai import chat, completions, embeddings, models
from llorch.server.routes.openai.responses import route as responses

router = APIRouter()
router.include_router(models.router)
router.include_router(completions.router)
router.include_router(chat.router)
router.include_router(responses.router)
router.include_router(embeddings.router)
