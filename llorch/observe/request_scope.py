"""The request that the code at hand works for: its id, which lines of the log bear, and its place in a trace."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

HEADER = "X-Request-Id"
"""By which clients give an id, and get it back."""

MAX_ID_CHARS = 128
_WELL_FORMED = re.compile(rf"[A-Za-z0-9._:=@+/-]{{1,{MAX_ID_CHARS}}}")


@dataclass(slots=True)
class RequestScope:
    """A request on its way through the process.

    Attributes:
        id: from its client, or made here.
        job_ids: names of the generations that were accepted for it.
        span: its span in a trace, if there is one: whatever the tracing module made.
    """

    id: str
    job_ids: list[str] = field(default_factory=list)
    span: object = None


current_scope: ContextVar[RequestScope | None] = ContextVar("llorch_request_scope", default=None)
"""Set where a request comes in; tasks and threads that are started for it inherit it. The compute thread has none."""


def current_request_id() -> str:
    """The id of the request at hand; empty where there is none."""
    scope = current_scope.get()
    return "" if scope is None else scope.id


def request_id_from(given: Sequence[str]) -> str:
    """The id that a client has given, if it gave one and that can stand in a header and in a log; else a new one."""
    if len(given) == 1 and _WELL_FORMED.fullmatch(given[0]):
        return given[0]
    return uuid.uuid4().hex
