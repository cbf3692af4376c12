"""The gateway: takes HTTP requests from Serve's proxies, hands them to replicas, and answers for those that are lost.

It sees whole requests, which the proxies do not, so that the router can choose a replica by what a prompt begins
with; and it outlives the replica, so that a stream that breaks off still ends with an `error` event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, nullcontext
from contextvars import Context, copy_context
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llorch.errors import EngineStoppedError, FieldError
from llorch.ray_serve.ask import Ask, is_generation, prefix_keys
from llorch.ray_serve.lost_replica import LOST, lost_frame
from llorch.ray_serve.places import Places
from llorch.server.access import owner_of
from llorch.server.app import ERROR_SHAPES, guard
from llorch.server.body import BODY_DEADLINE_S
from llorch.server.cors import with_cors
from llorch.server.errors import HTTPRefusalError, install_error_handlers, shape_of
from llorch.server.routes.health import health
from llorch.server.routes.ollama.lines import MEDIA_TYPE
from llorch.server.routes.trace import PATHS as TRACES
from llorch.settings import Settings

logger = logging.getLogger(__name__)

QUICK_BODY_BYTES = 1 << 14
"""Longer bodies are parsed outside the event loop."""

TRIES = 2
"""How often a request is handed to a replica: one that ends the replicas that take it shall not end them all."""

CANCEL_PATHS = ("/cancel", "/cancel/")


class ReplicaLostError(Exception):
    """The replica that answers a request, or was to, is gone."""


class Replicas(Protocol):
    """What answers requests: the replicas of the engine, through Serve."""

    def names(self) -> tuple[str, ...]:
        """Those that are there."""
        ...

    def answer(self, ask: Ask) -> AsyncGenerator[list[Message]]:
        """The messages of an answer, as many at a time as there are; `ReplicaLostError` where it breaks off."""
        ...


class _GatewayApp(FastAPI):
    """An application whose answers, refusals too, web pages of the settings' origins may read."""

    def build_middleware_stack(self) -> ASGIApp:
        return with_cors(super().build_middleware_stack(), self.state.cors_origins)


def create_gateway(replicas: Replicas, settings: Settings) -> FastAPI:
    """The application that answers with `replicas`, under the access rules of `settings`."""
    app = _GatewayApp(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.cors_origins = settings.cors_origins
    install_error_handlers(app, ERROR_SHAPES)
    guard(app, settings)
    app.add_api_route("/health", health, methods=["GET", "HEAD"])  # it lives, whatever its replicas do
    for path in TRACES:
        app.add_api_route(path, no_trace, methods=["POST"])
    app.router.default = Gateway(replicas, settings)
    return app


async def no_trace() -> None:
    """The replica that would end a trace might be another than the one that began it."""
    message = "replicas behind a gateway cannot be traced; trace one `llorch serve` with the same settings"
    raise HTTPRefusalError(404, FieldError("path", "a path of this server", message))


class Gateway:
    """The ASGI application behind the access rules: every path is the replicas', but for probes and `/cancel`."""

    def __init__(self, replicas: Replicas, settings: Settings) -> None:
        self._replicas = replicas
        self._max_body_bytes = settings.max_body_bytes
        self._asking: set[asyncio.Task[list[Message] | None]] = set()
        self._places = Places(
            lambda: len(replicas.names()) * settings.parallel, settings.max_waiting, time.monotonic
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; there is nothing to be done at start and end."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        body = await self._body(scope, receive)
        if body is None:
            return
        ask = await _ask(scope, body)
        if scope["method"] == "POST" and ask.scope["path"] in CANCEL_PATHS:
            await self._ask_each(ask, send)
            return
        with self._places.taken(owner_of(scope)) if ask.is_generation else nullcontext():
            await self._relay(ask, send)

    async def _relay(self, ask: Ask, send: Send) -> None:
        """Hand on an answer. One that is lost before it begins is asked for again: nobody has seen any of it.

        Raises:
            EngineStoppedError: it was lost, or not taken in time, as often as it is asked for.
            ReplicaLostError: it was lost in the middle of a body, which only a cut connection can say.
        """
        context = copy_context()
        for _ in range(TRIES):
            if await asyncio.create_task(self._relay_one(ask, send), context=context):
                return
            context = Context()  # Serve would take another call from this one for the same
        raise EngineStoppedError(LOST.message if ask.is_generation else "no replica answered in time")

    async def _relay_one(self, ask: Ask, send: Send) -> bool:
        """Hand on the messages of an answer; the head of one that is no stream waits for the body.

        Returns:
            Whether it has begun.

        Raises:
            ReplicaLostError: the replica was lost in the middle of a body.
        """
        path = ask.scope["path"]
        head: Message | None = None
        has_begun = is_stream = is_over = False
        try:
            async with (
                asyncio.timeout(None if ask.is_generation else ANSWER_S),
                aclosing(_messages(self._replicas.answer(ask))) as messages,
            ):
                async for message in messages:
                    if message["type"] == "http.response.start":
                        head, is_stream = message, _is_stream(message)
                        if not is_stream:
                            continue
                    elif head is not None and not has_begun and not is_stream:
                        await send(head)
                    await send(message)
                    has_begun = True
                    is_over = message["type"] == "http.response.body" and not message.get("more_body", False)
        except (ReplicaLostError, TimeoutError) as error:
            logger.warning("%s was not answered: %s", path[:64], error or "no replica took it in time")
        if is_over or not has_begun:
            return has_begun
        if not is_stream:
            raise ReplicaLostError(LOST.message)
        frame = lost_frame(path, shape_of(ERROR_SHAPES, path))
        await send({"type": "http.response.body", "body": frame, "more_body": False})
        return True

    async def _ask_each(self, ask: Ask, send: Send) -> None:
        """Ask every replica, for none knows whose generation it is; the best answer counts."""
        names = self._replicas.names()
        if not names:
            raise EngineStoppedError("there is no replica now")
        # Serve takes calls from one request's context for one call: each needs a context of its own.
        tasks = [asyncio.create_task(self._whole_answer(ask, name), context=Context()) for name in names]
        self._asking.update(tasks)  # the rest are asked, too, when one has answered
        answers = []
        for task in tasks:
            task.add_done_callback(self._asking.discard)
        for next_task in asyncio.as_completed(tasks):
            answers.append(await next_task)
            if answers[-1] and answers[-1][0]["status"] == 200:
                break
        else:
            if None in answers:
                raise EngineStoppedError("a replica did not answer in time")
        found = [messages for messages in answers if messages]
        if not found:
            raise EngineStoppedError(LOST.message)
        for message in min(found, key=lambda messages: messages[0]["status"]):
            await send(message)

    async def _whole_answer(self, ask: Ask, name: str) -> list[Message] | None:
        """The messages of one replica's answer; empty if it is gone, None if it does not answer."""
        own = Ask(ask.scope, ask.body, replica=name)
        try:
            async with asyncio.timeout(ANSWER_S):
                return [message async for message in _messages(self._replicas.answer(own))]
        except ReplicaLostError:
            return []
        except TimeoutError:
            return None

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body of a request, or enough of it for the replica to see that it is too large; None if it broke off.

        Raises:
            HTTPRefusalError: it does not arrive in time.
        """
        chunks, size, more = [], 0, True
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                while more and size <= self._max_body_bytes:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk = message.get("body", b"")
                    chunks.append(chunk)
                    size += len(chunk)
                    more = message.get("more_body", False)
        except TimeoutError:
            fault = FieldError(
                "body",
                f"within {BODY_DEADLINE_S:g} s",
                f"the body did not arrive within {BODY_DEADLINE_S:g} s",
            )
            raise HTTPRefusalError(408, fault) from None
        return b"".join(chunks)


ANSWER_S = 5.0
"""How long a replica may take to answer what takes no computing, before another one is asked."""


def _is_stream(head: Message) -> bool:
    return Headers(raw=head["headers"]).get("content-type", "").startswith(("text/event-stream", MEDIA_TYPE))


async def _messages(batches: AsyncGenerator[list[Message]]) -> AsyncGenerator[Message]:
    async with aclosing(batches):
        async for batch in batches:
            for message in batch:
                yield message


async def _ask(scope: Scope, body: bytes) -> Ask:
    plain = plain_scope(scope)
    generates = is_generation(plain["method"], plain["path"])
    if not generates:
        return Ask(plain, body)
    owner = owner_of(scope).encode("utf-8", "surrogatepass")
    if len(body) <= QUICK_BODY_BYTES:
        return Ask(plain, body, True, prefix_keys(owner, body))
    return Ask(plain, body, True, await asyncio.to_thread(prefix_keys, owner, body))


def plain_scope(scope: Scope) -> Mapping[str, Any]:
    """What ASGI says of a request, without what belongs to the process that received it, and as if at the root."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": scope["http_version"],
        "method": scope["method"],
        "scheme": scope.get("scheme", "http"),
        "path": scope["path"].removeprefix(scope.get("root_path", "")) or "/",
        "query_string": scope["query_string"],
        "root_path": "",
        "headers": [(bytes(name), bytes(value)) for name, value in scope["headers"]],
        "client": scope.get("client"),
        "server": scope.get("server"),
    }
