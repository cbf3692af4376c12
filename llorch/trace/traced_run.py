"""A real generation, recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent
from llorch.engine.request import Request, new_seed
from llorch.engine.session import CallerDriver
from llorch.errors import InputError, LlorchError
from llorch.machine.memory import available_memory
from llorch.open_model import OpenModel
from llorch.settings import Settings
from llorch.trace.recorder import MAX_BYTES, Recorder
from llorch.trace.records import Recording


@dataclass(frozen=True, slots=True)
class TracedRun:
    """What was recorded, and how the generation ended."""

    recording: Recording
    end: EndEvent


def record_run(
    loaded: OpenModel,
    settings: Settings,
    request: Request,
    *,
    n_warm: int = 1,
    max_bytes: int = MAX_BYTES,
    observed: bool = False,
    watches_cores: bool = False,
) -> TracedRun:
    """Generate `request` and record every step.

    Args:
        loaded: the model.
        settings: of the engine; it computes this one sequence, and no prefix comes from a cache.
        request: what to generate.
        n_warm: times that it is generated before, unrecorded: weights and pages are in memory then, and the number of
            threads is chosen.
        max_bytes: most memory for stamps.
        observed: whether the recorded steps run the observed program.
        watches_cores: whether it is noted how long threads were without a core.

    Raises:
        InputError: an observed step would take too much memory.
        RequestError: with every fault of the request.
        ContextLengthError: the prompt fills the context.
    """
    if observed:
        _check_scores(loaded, request)
    if request.params.seed is None:  # every run chooses the same tokens
        request = replace(request, params=replace(request.params, seed=new_seed()))
    engine = Engine(loaded, settings.model_copy(update={"parallel": 1, "prefix_cache": False}))
    driver = CallerDriver(engine)
    for _ in range(n_warm):
        _end_of(driver, request)
    engine.watcher = recorder = Recorder(
        loaded.llama, max_bytes, observed=observed, watches_cores=watches_cores
    )
    end = _end_of(driver, request)
    engine.watcher = None
    return TracedRun(recorder.finish(), end)


def _check_scores(loaded: OpenModel, request: Request) -> None:
    """Refuse a prompt whose scores, which an observed step has in memory, take more than half of what is free."""
    n_prompt = len(request.token_ids)
    need = 8 * loaded.config.n_head * min(loaded.llama.n_batch, n_prompt) * n_prompt
    free = available_memory()
    if need > free // 2:
        raise InputError(
            f"--observed: the scores of a step take up to {need / 1e6:.0f} MB, expected at most half of the "
            f"{free / 1e6:.0f} MB of memory that are free; a smaller --batch-size takes less"
        )


def _end_of(driver: CallerDriver, request: Request) -> EndEvent:
    for event in driver.events(request):
        if isinstance(event, EndEvent):
            return event
    raise LlorchError("the generation ended without a result")
