"""A replica: an engine and its application, asked by the gateway through Serve."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import ray
from ray import serve
from ray.exceptions import RayError
from starlette.types import Message

from llorch.engine.ledger import BROKEN
from llorch.engine.service import EngineService
from llorch.errors import EngineStoppedError
from llorch.ray_serve.answering import answer_in_batches
from llorch.ray_serve.ask import Ask
from llorch.ray_serve.callers import Callers
from llorch.ray_serve.router import LIGHT_RESERVE
from llorch.server.app import create_app
from llorch.settings import Settings

logger = logging.getLogger(__name__)

SERVE_NAMESPACE = "serve"
"""Of Ray's namespaces, the one in which Serve's actors have their names."""


class Replica:
    """One engine. Serve makes it, asks for its health and its load, and ends it when its requests are answered."""

    def __init__(self, settings: Settings) -> None:
        """Load the model; it takes requests when this returns.

        Raises:
            LlorchError: the model cannot be loaded.
        """
        log_with_serve(settings.log_level)
        n_threads = max(int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)), 1)
        own = {
            "threads": n_threads,
            "cors_origins": (),  # the gateway tells browsers what they may read
            "max_waiting": max(
                settings.max_waiting, LIGHT_RESERVE
            ),  # it counts, too: nobody is refused twice
        }
        self._service = EngineService(settings.model_copy(update=own))
        self._app = create_app(self._service)
        self._name: str = serve.get_replica_context().replica_id.unique_id
        self._callers = Callers(is_alive)
        self._service.start()
        self._service.wait_until_ready()
        logger.info("replica %s is ready: %s, %d threads", self._name, settings.model, n_threads)

    async def answer(self, ask: Ask) -> AsyncGenerator[list[Message]]:
        """The ASGI messages of the answer to `ask`; whoever leaves early, or dies, ends the generation."""
        with self._callers.waiting(ask.gateway) as has_left:
            async with aclosing(answer_in_batches(self._app, ask, self._name, has_left)) as batches:
                async for batch in batches:
                    yield batch

    def check_health(self) -> None:
        """Called by Serve, which replaces a replica that raises.

        Raises:
            EngineStoppedError: the engine will not take requests again.
        """
        if self._service.stage in BROKEN:
            raise EngineStoppedError(f"the engine takes no requests any more: {self._service.reason}")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve: the gauges that `llorch.ray_serve.autoscaling` adds up."""
        snapshot = self._service.snapshot()
        n_running = 0 if snapshot is None else snapshot.n_running
        return {
            "running": float(n_running),
            "waiting": float(max(self._service.n_open - n_running, 0)),
            "slots": float(self._service.settings.parallel),
        }

    async def __del__(self) -> None:
        """Called by Serve when all requests are answered, or their time is over."""
        await self._service.stop(0.0)


def is_alive(actor_name: str) -> bool:
    """Whether Serve's actor of that name lives; true as well where Ray cannot say."""
    try:
        ray.get_actor(actor_name, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    except RayError:
        return True
    return True


def log_with_serve(level: str) -> None:
    """Let llorch's log go where Serve's goes: the files of this replica, in the form that Serve is told to write."""
    own = logging.getLogger("llorch")
    own.handlers = logging.getLogger("ray.serve").handlers
    own.propagate = False
    own.setLevel(level.upper())
