"""The model behind a service, for paths that need it and no place in line."""

from __future__ import annotations

from llorch.engine.service import EngineService
from llorch.open_model import OpenModel
from llorch.server.errors import NotReadyError


def ready_model(service: EngineService) -> OpenModel:
    """The model that `service` computes with.

    Raises:
        NotReadyError: it is not ready, or will not be again.
    """
    loaded = service.loaded
    if service.stage != "ready" or loaded is None:
        raise NotReadyError(service.stage, service.reason)
    return loaded
