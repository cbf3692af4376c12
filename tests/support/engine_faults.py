"""Faults planted in the parts of an engine's step: the real part runs, and raises for one generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import llorch.engine.engine as engine_module
from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.sampling import Sampler
from llorch.engine.scheduler import Chunk
from llorch.engine.sequence import Sequence

BAD = "bad"
JOBS = ("a", "b", BAD, "c", "d")

Plant = Callable[[Engine, pytest.MonkeyPatch], None]


def request(job_id: str, max_tokens: int = 12) -> Request:
    """Chance decides, so that a generation whose sampler was asked once too often differs."""
    number = JOBS.index(job_id)
    params = SamplingParams(seed=number, temperature=2, top_k=0, repetition_penalty=1.1)
    return Request(job_id, (1, *range(5, 12 + number)), params, max_tokens, ignore_eos=True)


def is_bad(sequences: Any) -> bool:
    return any(sequence.request.job_id == BAD for sequence in sequences)


def patch_to_fail(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    is_at_fault: Callable[..., bool],
    error: Exception | None = None,
    after: bool = False,
) -> None:
    """The method raises when `is_at_fault` says so of its arguments, before or after it has done its work."""
    method = getattr(owner, name)

    def faulty(*args: Any, **kwargs: Any) -> Any:
        fails = is_at_fault(*args)
        if fails and not after:
            raise error or RuntimeError("a fault of ours")
        result = method(*args, **kwargs)
        if fails:
            raise error or RuntimeError("a fault of ours")
        return result

    monkeypatch.setattr(owner, name, faulty)


def admit_refuses(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    patch_to_fail(patch, engine._scheduler, "admit", lambda: is_bad(engine._scheduler.waiting))


def admit_fails_behind_its_work(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    patch_to_fail(patch, engine._scheduler, "admit", lambda: is_bad(engine._scheduler.waiting), after=True)


def no_blocks(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    patch_to_fail(patch, engine._blocks, "grow", lambda sequence, n_tokens: is_bad([sequence]), MemoryError())


def schedule_refuses(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    patch_to_fail(patch, engine._scheduler, "schedule", lambda n_rows: is_bad(engine._scheduler.running))


def schedule_refuses_later(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    def is_at_fault(n_rows: int) -> bool:
        return any(s.request.job_id == BAD and s.n_generated == 5 for s in engine._scheduler.running)

    patch.setattr(engine._scheduler, "steady", list)  # so that every step is scheduled
    patch_to_fail(patch, engine._scheduler, "schedule", is_at_fault)


def batch_cannot_be_built(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    def is_at_fault(chunks: list[Chunk], tables: Any) -> bool:
        return is_bad(chunk.sequence for chunk in chunks)

    patch_to_fail(patch, engine_module, "batch_of", is_at_fault, MemoryError())


def batch_points_outside(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    """The model itself refuses the batch."""
    append = Sequence.append

    def append_nonsense(self: Sequence, token_id: int, now_s: float) -> None:
        append(self, 10**6 if self.request.job_id == BAD and self.n_generated == 3 else token_id, now_s)

    patch.setattr(Sequence, "append", append_nonsense)


def sampler_fails(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    seed = request(BAD).params.seed
    sample = Sampler.sample

    def sample_or_fail(self: Sampler, logits: Any) -> int:
        if self.params.seed == seed:
            raise MemoryError
        return sample(self, logits)

    patch.setattr(Sampler, "sample", sample_or_fail)


def text_fails(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    patch_to_fail(
        patch,
        engine._postprocessor,
        "_accept_token",
        lambda sequence, *_: is_bad([sequence]),
        UnicodeError("no text"),
    )


def end_fails(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    end_event = Sequence.end_event

    def end_or_fail(self: Sequence, *args: Any) -> EndEvent:
        if self.request.job_id == BAD:
            raise ZeroDivisionError
        return end_event(self, *args)

    patch.setattr(Sequence, "end_event", end_or_fail)


def begin_fails(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    patch_to_fail(patch, engine, "check", lambda request: request.job_id == BAD)


PLANTS = (
    admit_refuses, admit_fails_behind_its_work, no_blocks, schedule_refuses, schedule_refuses_later,
    batch_cannot_be_built, batch_points_outside, sampler_fails, text_fails, end_fails,
)  # fmt: skip
