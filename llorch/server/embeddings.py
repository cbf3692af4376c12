"""Vectors of the texts of one request: accepted together, checked together, computed a few at a time.

Each text is a generation that generates nothing. So it takes turns with the others, in steps that keep running answers
going; and its place in line, its deadline, its owner and its counts are those of every generation.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import math
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from llorch.embedding.pooling import EUCLIDEAN, Pooler, Pooling
from llorch.engine.events import EndEvent, ErrorEvent
from llorch.engine.generations import TIMED_OUT
from llorch.engine.ledger import Submission
from llorch.engine.service import EngineService
from llorch.errors import ContextLengthError, FieldError, RequestError
from llorch.observe.request_scope import current_scope
from llorch.open_model import OpenModel
from llorch.server.access import owner_of
from llorch.server.errors import GenerationFailedError, HTTPRefusalError
from llorch.server.metrics.http_counts import CLIENT_LEFT
from llorch.server.ready import ready_model
from llorch.server.streaming import on_departure
from llorch.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

MAX_INPUTS = 2048
"""Most texts of one request; OpenAI's limit."""

Encode: TypeAlias = Callable[[Tokenizer], Sequence[int]]
"""Makes the token ids of a text; a `RequestError` says why it cannot."""

_TOO_LATE = dataclasses.replace(
    TIMED_OUT, message="the request's time was over before its vectors were computed"
)
_ABORTED = ErrorEvent("aborted", "the request was ended before its vectors were computed", retriable=True)
_LEFT = FieldError("request", "a client that waits for its answer", "the client has left")


@dataclasses.dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of an answer.

    Attributes:
        vectors: float32 (n_embd,) of each text.
        n_tokens: of all texts.
    """

    vectors: list[NDArray[np.float32]]
    n_tokens: int


async def embed(
    request: Request,
    texts: Sequence[Encode],
    *,
    pooling: Pooling,
    norm: int = EUCLIDEAN,
    timeout_s: float | None = None,
    name: str = "input",
) -> Embedded:
    """Compute a vector for each of `texts`; a client that leaves meanwhile ends that.

    Places are taken before anything is tokenised, and nothing is computed before all texts have been checked.

    Args:
        request: whose they are; its body has been read.
        texts: 1 to `MAX_INPUTS`.
        pooling: how one vector is made of those of the tokens.
        norm: as `Pooler.vector` has it.
        timeout_s: seconds after which the request ends, if the client says so.
        name: of the field with the texts.

    Raises:
        RequestError: a text cannot be embedded, with every fault; `ContextLengthError` if one is too long.
        QueueFullError: too many are waiting.
        EngineStoppedError, NotReadyError: the engine takes no requests.
        GenerationFailedError: it took too long, was ended, or its vectors are unusable.
        HTTPRefusalError: the client has left.
    """
    service: EngineService = request.app.state.service
    loaded = ready_model(service)
    job = _Job(service, owner_of(request.scope), len(texts), timeout_s)
    try:
        with on_departure(request, job.leave):
            token_ids = await asyncio.to_thread(_token_ids, loaded, texts, service.n_ctx, name)
            job.n_tokens = sum(map(len, token_ids))
            poolers = [Pooler(loaded, pooling) for _ in texts]
            order = sorted(range(len(texts)), key=lambda i: len(token_ids[i]))
            waves = [order[first : first + job.n_side] for first in range(0, len(texts), job.n_side)]
            for wave, following in itertools.zip_longest(waves, waves[1:], fillvalue=()):
                await job.compute([(token_ids[i], poolers[i]) for i in wave], len(following))
    finally:
        job.close()
    vectors = await asyncio.to_thread(lambda: [pooler.vector(norm) for pooler in poolers])
    return Embedded(vectors, job.n_tokens)


class _Job:
    """The places in line of a request, and how it went.

    Attributes:
        n_side: texts that are computed side by side: one sequence is left for others, where there are several.
        n_tokens: of all texts, once they are known.
    """

    def __init__(self, service: EngineService, owner: str, n_texts: int, timeout_s: float | None) -> None:
        """Take the first places; raises as `EngineService.reserve`."""
        settings = service.settings
        limits = [limit for limit in (timeout_s, settings.request_timeout_s) if limit]
        self.n_side = min(n_texts, max(settings.parallel - 1, 1))
        self.n_tokens = 0
        self._service = service
        self._owner = owner
        self._n_texts = n_texts
        self._id = f"embd-{uuid.uuid4().hex}"
        self._begun_s = time.monotonic()
        self._ends_s = self._begun_s + min(limits, default=math.inf)
        self._outcome = "failed"
        self._has_left = False
        self._n_places = self._n_computed = 0
        self._places: list[Submission] = []
        self._next_places = self._reserve(self.n_side)

    async def compute(self, texts: Sequence[tuple[Sequence[int], Pooler]], n_following: int) -> None:
        """Let poolers read their texts, for which there are places; take places for so many texts that follow.

        So a request is in line from its begin to its end, and a server that stops waits for it as for any other.
        """
        if self._has_left:
            self._fail(_ABORTED)
        self._places, self._next_places = self._next_places, self._reserve(n_following)
        for place, (token_ids, pooler) in zip(self._places, texts, strict=True):
            options: dict[str, Any] = {"owner": self._owner, "states_to": pooler}
            await self._service.submit(place=place, token_ids=token_ids, max_tokens=0, options=options)
        n_left = len(texts)
        while n_left:
            for _, event in await self._places[0].mailbox.take():
                if isinstance(event, ErrorEvent):
                    self._fail(event)
                if isinstance(event, EndEvent):
                    if event.finish_reason == "abort":
                        self._fail(_ABORTED)
                    n_left -= 1
        self._n_computed += len(texts)

    def leave(self) -> None:
        """End what is being computed, since nobody waits for it."""
        self._has_left = True
        for place in (*self._places, *self._next_places):
            self._service.release(place)

    def close(self) -> None:
        """End what is unfinished, and log one line: counts and times, never text."""
        for place in (*self._places, *self._next_places):
            if place.request is None:
                self._service.withdraw(place)
            else:
                self._service.release(place)
        if self._n_computed == self._n_texts:
            self._outcome = "embedded"
        if self.n_tokens:  # else it was refused, and the line of the HTTP request says so
            self._log()

    def _log(self) -> None:
        total_s = time.monotonic() - self._begun_s
        extra: dict[str, object] = {
            "job_id": self._id,
            "texts": self._n_texts,
            "prompt_tokens": self.n_tokens,
            "total_s": round(total_s, 4),
            "outcome": self._outcome,
        }
        if self._owner:
            extra["owner"] = self._owner
        of = f" of {self._owner}" if self._owner else ""
        counts = f"{self._n_computed} of {self._n_texts} texts, {self.n_tokens} tokens"
        logger.info("%s%s: %s, %s in %.2f s", self._id, of, self._outcome, counts, total_s, extra=extra)

    def _reserve(self, n: int) -> list[Submission]:
        if not n:
            return []
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            self._fail(_TOO_LATE)
        begin, self._n_places = self._n_places, self._n_places + n
        places = self._service.reserve(
            [f"{self._id}.{i}" for i in range(begin, begin + n)],
            owner=self._owner,
            timeout_s=None if left_s == math.inf else left_s,
            has_begun=begin > 0,
        )
        if (scope := current_scope.get()) is not None:
            scope.job_ids[:] = [self._id]  # one name in the log, not two thousand
        return places

    def _fail(self, event: ErrorEvent) -> NoReturn:
        """Raise what the end of a generation means for the request."""
        if self._has_left:
            self._outcome = "client left"
            raise HTTPRefusalError(CLIENT_LEFT, _LEFT)
        self._outcome = event.code
        raise GenerationFailedError(_TOO_LATE if event.code == TIMED_OUT.code else event)


def _token_ids(loaded: OpenModel, texts: Sequence[Encode], n_ctx: int, name: str) -> list[tuple[int, ...]]:
    """The token ids of all texts, each of which fits the context."""
    n_vocab = loaded.config.n_vocab
    found: list[tuple[int, ...]] = []
    faults: list[FieldError] = []
    for i, encode in enumerate(texts):
        subject = name if len(texts) == 1 else f"{name}[{i}]"
        try:
            ids = tuple(encode(loaded.tokenizer))
        except RequestError as error:
            faults += [
                FieldError(subject, one.constraint, f"{subject}: {one.message}") for one in error.errors
            ]
            continue
        n_bad = sum(token_id >= n_vocab for token_id in ids) if max(ids, default=0) >= n_vocab else 0
        if not ids or n_bad:
            rule = f"token ids, 0 <= id < {n_vocab}, at least one"
            got = f"{n_bad} of {len(ids)} wrong" if n_bad else "none"
            faults.append(FieldError(subject, rule, f"{subject}: expected {rule}; got {got}"))
        found.append(ids)
    if faults:
        raise RequestError(faults)
    for i, ids in enumerate(found):
        if len(ids) > n_ctx:
            subject = name if len(texts) == 1 else f"{name}[{i}]"
            raise ContextLengthError(len(ids), n_ctx, has_answer=False, field=subject)
    return found
