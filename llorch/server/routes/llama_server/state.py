"""`GET /props`, `GET /slots`, `GET /v1/health`: what the server is and does, in llama-server's words."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["llama-server"])


async def health() -> dict[str, str]:
    """As `/health`: always 200; needs no key."""
    return {"status": "ok"}


router.add_api_route("/v1/health", health, methods=["GET", "HEAD"], include_in_schema=False)
