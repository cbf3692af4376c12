"""An engine that shows the bits of the logits from which each token was chosen."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import llorch.engine.engine as engine_module
from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent
from llorch.engine.request import Request
from llorch.engine.sampling import Sampler
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.generations import end_of

Outcome = tuple[tuple[int, ...], str, tuple[str, ...]]
"""Token ids, finish reason, and a hash of the logits behind each choice."""


class WatchedEngine:
    """An engine of `parallel` slots whose samplers' inputs are hashed.

    Attributes:
        engine: the engine.
        ends: last events by job.
    """

    def __init__(self, loaded: OpenModel, n_blocks: int | None = None, **settings: Any) -> None:
        """`n_blocks` KV blocks in place of as many as the slots may need."""
        self.engine = (
            Engine(loaded, Settings(**settings)) if n_blocks is None else _small(loaded, n_blocks, settings)
        )
        self.ends: dict[str, EndEvent] = {}
        self._events: defaultdict[str, list[Any]] = defaultdict(list)
        self._hashes: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, request: Request) -> None:
        """Begin a generation."""
        self.engine.add(request)
        sequence = self.engine._generations.find(request.job_id)
        assert sequence is not None
        sequence.sampler = _Watched(sequence.sampler, self._hashes[request.job_id])  # type: ignore[assignment]

    def step(self) -> None:
        """One step."""
        for step_event in self.engine.step():
            self._events[step_event.job_id].append(step_event.event)

    def run(self, *requests: Request, until: Callable[[], bool] | None = None) -> dict[str, Outcome]:
        """Begin these, and step until nothing is left or `until` is true; what has ended."""
        for request in requests:
            self.add(request)
        while self.engine.has_work and not (until is not None and until()):
            self.step()
        for job_id, events in self._events.items():
            if isinstance(events[-1], EndEvent):
                self.ends[job_id] = end_of(events)
        return {
            job_id: (end.token_ids, end.finish_reason, tuple(self._hashes[job_id]))
            for job_id, end in self.ends.items()
        }


class _Watched:
    def __init__(self, sampler: Sampler, hashes: list[str]) -> None:
        self._sampler = sampler
        self._hashes = hashes

    def sample(self, logits: NDArray[np.float32]) -> int:
        self._hashes.append(hashlib.blake2b(logits.tobytes(), digest_size=8).hexdigest())
        return self._sampler.sample(logits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


def _small(loaded: OpenModel, n_blocks: int, settings: dict[str, Any]) -> Engine:
    """An engine with fewer blocks than its slots may need, as on a machine with little memory."""
    with pytest.MonkeyPatch.context() as patch:
        plan = engine_module.plan_kv_cache  # type: ignore[attr-defined]
        patch.setattr(
            engine_module, "plan_kv_cache", lambda *args, **kwargs: (plan(*args, **kwargs)[0], n_blocks)
        )
        return Engine(loaded, Settings(**settings))
