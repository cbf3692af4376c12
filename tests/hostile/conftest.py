"""The server that hostile clients meet."""

from __future__ import annotations

from tests.integration.conftest import long_model, server

__all__ = ["long_model", "server"]
