"""The Serve application: what is deployed, with which options."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import Message

from llorch.ray_serve.ask import Ask
from llorch.ray_serve.gateway import ReplicaLostError, create_gateway
from llorch.ray_serve.known_replicas import known_replicas
from llorch.ray_serve.options import Options, parse_options
from llorch.ray_serve.replica import Replica, log_with_serve
from llorch.ray_serve.router import LIGHT_RESERVE
from llorch.settings import Settings

logger = logging.getLogger(__name__)

REPLICA = "Replica"
GATEWAY = "Gateway"
"""Names of the deployments, for the `deployments` of a Serve config file."""

GATEWAY_REQUESTS = 10_000
"""Requests that one gateway takes at a time, most of which wait for tokens."""

HEALTH_PERIOD_S = 2.0
"""How often Serve asks a replica, and a gateway, for its health."""

STOP_S = 5.0
"""What a replica has to end, after the time that its requests have."""

ROUTING_RETRY_S = 0.1
"""How long a request that found no free slot waits at most until it looks again."""


def build_app(args: dict[str, Any]) -> serve.Application:
    """The application: a gateway before replicas of the engine.

    Args:
        args: settings of `llorch serve` and the options of `llorch.ray_serve.options`, by name. Settings that are
            not given come from the environment and the settings file of the machine that builds the application.

    Raises:
        SettingsError: an argument or a setting is unknown or out of range, with all of them.
    """
    options = parse_options(args)
    replicas = serve.deployment(Replica, name=REPLICA).options(**_replica_options(options))
    gateway = serve.deployment(serve.ingress(_gateway_builder(options.settings))(), name=GATEWAY).options(
        num_replicas=options.gateways,
        max_ongoing_requests=GATEWAY_REQUESTS,
        graceful_shutdown_timeout_s=options.settings.shutdown_grace_s + 2 * STOP_S,
        health_check_period_s=HEALTH_PERIOD_S,
        ray_actor_options={"num_cpus": 0},  # it computes nothing: a node's CPUs are for replicas
    )
    return gateway.bind(replicas.bind(options.settings))


def _replica_options(options: Options) -> Mapping[str, Any]:
    settings = options.settings
    scale: dict[str, Any] = {"num_replicas": options.min_replicas}
    if options.max_replicas > options.min_replicas:
        scale = {
            "num_replicas": None,
            "autoscaling_config": AutoscalingConfig(
                min_replicas=options.min_replicas,
                max_replicas=options.max_replicas,
                policy=AutoscalingPolicy(policy_function="llorch.ray_serve.autoscaling:replicas_for_load"),
            ),
        }
    return {
        **scale,
        "ray_actor_options": {"num_cpus": options.num_cpus},
        # Requests wait at the gateway, for whichever slot is free first, and not at a replica.
        "max_ongoing_requests": settings.parallel + LIGHT_RESERVE,
        "max_queued_requests": -1,  # the gateway counts, for each API key
        "graceful_shutdown_timeout_s": settings.shutdown_grace_s + STOP_S,
        "health_check_period_s": HEALTH_PERIOD_S,
        "request_router_config": RequestRouterConfig(
            request_router_class="llorch.ray_serve.router:PrefixRouter", max_backoff_s=ROUTING_RETRY_S
        ),
    }


def _gateway_builder(settings: Settings) -> Any:
    """A function that Serve calls in the gateway's process; it makes the gateway's application."""

    def build() -> FastAPI:
        log_with_serve(settings.log_level)
        app_name = serve.get_replica_context().app_name
        return create_gateway(ServeReplicas(app_name), settings)

    return build


def _handle(app_name: str) -> DeploymentHandle:
    """A handle with a router of its own: `serve.get_deployment_handle` gives one process the same one each time."""
    return DeploymentHandle(REPLICA, app_name).options(stream=True, method_name=Replica.answer.__name__)


class ServeReplicas:
    """The replicas of an application, asked through handles of Serve.

    A handle's router looks for a replica for two requests per replica at a time; behind those that wait for slots,
    nothing would get through that needs none. So that has a handle, and a router, of its own.
    """

    def __init__(self, app_name: str) -> None:
        self._for_generations, self._for_others = _handle(app_name), _handle(app_name)
        self._app_name = app_name
        self._own_name = serve.get_replica_context().replica_id.to_full_id_str()

    def names(self) -> tuple[str, ...]:
        """Unique ids of the replicas that are there; none before the first request was routed."""
        return known_replicas(self._app_name)

    async def answer(self, ask: Ask) -> AsyncGenerator[list[Message]]:
        """The messages of the answer to `ask`; leaving early cancels it.

        Raises:
            ReplicaLostError: the replica, or every one, is gone.
        """
        handle = self._for_generations if ask.is_generation else self._for_others
        response = handle.remote(replace(ask, gateway=self._own_name))
        is_over = False
        try:
            async for batch in response:
                yield batch
            is_over = True
        except (RayError, RayServeException) as error:
            is_over = True
            raise ReplicaLostError(f"{type(error).__name__}: {error}") from error
        finally:
            if not is_over:
                response.cancel()
