"""Receipts of a server's answers. The first request that asks for one waits until the model's file is hashed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from llorch.engine.events import EndEvent, ErrorEvent
from llorch.engine.generations import TIMED_OUT
from llorch.engine.request import Request as GenerationRequest
from llorch.engine.service import EngineService
from llorch.errors import InputError
from llorch.receipts.issue import Issuer
from llorch.server.errors import GenerationFailedError
from llorch.server.ready import ready_model

logger = logging.getLogger(__name__)

_UNAVAILABLE = ErrorEvent(
    "receipt_unavailable",
    "no receipt can be given: the model file was changed since it was loaded, or cannot be read; the log says more",
    retriable=True,
)


class ReceiptDesk:
    """Holds what writes receipts, once somebody has asked for one."""

    def __init__(self, service: EngineService) -> None:
        self._service = service
        self._making: asyncio.Task[Issuer] | None = None

    async def issuer(self, timeout_s: float | None) -> Issuer:
        """What writes receipts; the first call waits until the model's file is hashed, and all that come meanwhile.

        Args:
            timeout_s: most seconds to wait, if there is a limit.

        Raises:
            NotReadyError: there is no model (yet, or any more).
            GenerationFailedError: the file is not what was loaded any more, or the time is over.
        """
        service, loaded = self._service, ready_model(self._service)
        if self._making is None:
            kv_type = service.settings.kv_type
            self._making = asyncio.create_task(asyncio.to_thread(Issuer, loaded, service.n_ctx, kv_type))
        making = self._making
        limits = [limit for limit in (timeout_s, service.settings.request_timeout_s) if limit]
        try:
            async with asyncio.timeout(min(limits, default=None)):
                return await asyncio.shield(making)
        except TimeoutError:
            raise GenerationFailedError(TIMED_OUT) from None
        except Exception as error:
            if self._making is making:  # whoever asks next tries again
                self._making = None
                is_known = isinstance(error, InputError)
                logger.error("no receipt: %s", error, exc_info=None if is_known else error)
            raise GenerationFailedError(_UNAVAILABLE) from None


class AnswerReceipts:
    """The receipts of one answer, if it bears some."""

    def __init__(self, issuer: Issuer | None = None) -> None:
        self._issuer = issuer
        self._requests: Sequence[GenerationRequest] = ()

    @property
    def is_asked_for(self) -> bool:
        """Whether the answer shall bear receipts."""
        return self._issuer is not None

    def are_for(self, requests: Sequence[GenerationRequest]) -> None:
        """Say what is computed for each choice, once that is known."""
        if self.is_asked_for:
            self._requests = requests

    def member(self, k: int, end: EndEvent) -> dict[str, Any]:
        """The member `receipt` of choice `k`; nothing where none is asked for."""
        return {} if self._issuer is None else {"receipt": self._issuer.receipt(self._requests[k], end)}


NO_RECEIPTS = AnswerReceipts()


async def receipts_of(request: Request, is_asked_for: bool, timeout_s: float | None) -> AnswerReceipts:
    """The receipts of an answer that is about to be computed.

    Raises:
        NotReadyError, GenerationFailedError: as `ReceiptDesk.issuer`.
    """
    if not is_asked_for:
        return NO_RECEIPTS
    desk: ReceiptDesk = request.app.state.receipts
    return AnswerReceipts(await desk.issuer(timeout_s))
