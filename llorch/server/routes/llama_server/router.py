"""All paths of llama-server in one router; those that it has both with and without ``/v1``, too."""

from __future__ import annotations

from fastapi import APIRouter

from llorch.server.routes.llama_server import completion, embeddings, state, template, tokens
from llorch.server.routes.openai.chat import count_input_tokens, create_chat_completion
from llorch.server.routes.openai.models import list_models

router = APIRouter()
for _part in (completion, embeddings, state, template, tokens):
    router.include_router(_part.router)
router.add_api_route("/models", list_models, methods=["GET"], include_in_schema=False)
for _path, _endpoint in (
    ("/chat/completions", create_chat_completion),
    ("/chat/completions/input_tokens", count_input_tokens),
):
    router.add_api_route(_path, _endpoint, methods=["POST"], include_in_schema=False)
