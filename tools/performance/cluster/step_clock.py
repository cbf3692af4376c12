"""Times steps of a real engine whose composition is given: so many rows of answers and of prompts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llorch.engine.engine import Engine
from llorch.engine.pace import Pace
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tools.performance.cluster.step_times import Costs, Load

_GREEDY = SamplingParams(temperature=0)
SHORT = 16
"""Context of the sequences whose rows are measured without what contexts cost."""

_REUSED = 128
"""Rows that are measured of a prompt before a new one is read: so contexts stay about equal."""


class FixedPace(Pace):
    """Gives every step the rows it is told to, and keeps how long the last forward pass took."""

    def __init__(self, n_batch: int) -> None:
        super().__init__(n_batch)
        self.rows = n_batch
        self.forward_s = 0.0

    def n_rows(self, n_decoding: int = 0, *, n_burst: int = 0, n_before: int = 0) -> int:
        """The rows that were set."""
        del n_decoding, n_burst, n_before
        return self.rows

    def record(self, n_decoding: int, n_prompt: int, duration_s: float, *, n_looks: int = 0) -> None:
        """Keep the duration."""
        del n_decoding, n_prompt, n_looks
        self.forward_s = duration_s


@dataclass(frozen=True, slots=True)
class Sample:
    """A step that was timed: what it computed, seconds of its forward pass and of the rest."""

    load: Load
    forward_s: float
    outside_s: float


class TimedEngine(Engine):
    """An engine that computes steps of a given composition."""

    def __init__(self, loaded: OpenModel, n_decode: int, n_ctx: int, n_batch: int) -> None:
        """Set up for `n_decode` answers and one prompt side by side."""
        settings = Settings(parallel=n_decode + 1, ctx_size=n_ctx, prefix_cache=False)
        super().__init__(loaded, settings)
        self.fixed = FixedPace(n_batch)
        self._pace = self.fixed
        self._n_requests = 0

    def begin_answers(self, n_decode: int, n_context: int) -> None:
        """Let so many sequences read a prompt of `n_context` tokens, and begin to answer without end."""
        self.fixed.rows = self.loaded.llama.n_batch
        for _ in range(n_decode):
            self._begin(n_context, self.n_ctx)
        while (state := self.snapshot()).n_waiting or any(slot.is_prefilling for slot in state.slots):
            self.step()

    def begin_prompt(self, n_tokens: int) -> str:
        """Put a prompt in line; its name."""
        return self._begin(n_tokens, 1)

    def timed_step(self, n_prompt: int) -> Sample:
        """Compute a step with `n_prompt` rows of the prompt in line, or none."""
        slots = self.snapshot().slots
        contexts = [slot.n_computed for slot in slots if not slot.is_prefilling]
        begin = sum(slot.n_computed for slot in slots if slot.is_prefilling)
        self.fixed.rows = len(contexts) + n_prompt
        begun_s, begun_cpu_s = time.perf_counter(), time.thread_time()
        self.step()
        seconds = time.perf_counter() - begun_s
        forward_s = self.fixed.forward_s
        if self.loaded.llama.n_threads == 1:  # the processor's time: what another program took does not count
            cpu_s = time.thread_time() - begun_cpu_s
            forward_s, seconds = forward_s * cpu_s / seconds, cpu_s
        load = Load(len(contexts), n_prompt, sum(contexts), n_prompt * begin + n_prompt * (n_prompt - 1) // 2)
        return Sample(load, forward_s, seconds - forward_s)

    def _begin(self, n_tokens: int, max_tokens: int) -> str:
        self._n_requests += 1
        name = f"timed-{self._n_requests}"
        token_ids = tuple(3 + (7 * i + self._n_requests) % 250 for i in range(n_tokens))
        self.add(Request(name, token_ids, _GREEDY, max_tokens, ignore_eos=True))
        return name


def samples(
    loaded: OpenModel, n_decode: int, n_prompt: Sequence[int], n_context: int, n_times: int
) -> list[Sample]:
    """`n_times` steps with `n_decode` rows of answers at `n_context`, for each count of rows of a prompt there."""
    most = max(n_prompt)
    n_ctx = n_context + max(most, _REUSED) + 2 + (n_times + 1) * len(n_prompt)
    engine = TimedEngine(loaded, n_decode, n_ctx, loaded.llama.n_batch)
    engine.begin_answers(n_decode, n_context)
    found: list[Sample] = []
    for rows in n_prompt:
        if rows or n_decode:
            found += _steps(engine, n_decode, rows, n_context, n_times)
    engine.abort_all()
    engine.close()
    return found


def _steps(engine: TimedEngine, n_decode: int, rows: int, n_context: int, n_times: int) -> list[Sample]:
    """Steps of one composition; prompts are read to `n_context` first, a new one whenever one is used up."""
    if not rows:
        return [engine.timed_step(0) for _ in range(n_times)]
    found: list[Sample] = []
    n_each = max(_REUSED // rows, 1)
    while len(found) < n_times:
        name = engine.begin_prompt(n_context + n_each * rows + 2)
        _read_up_to(engine, n_decode, n_context)
        found += [engine.timed_step(rows) for _ in range(n_each)]
        engine.abort(name)
    return found[:n_times]


def _read_up_to(engine: TimedEngine, n_decode: int, n_context: int) -> None:
    """Read the beginning of the prompt in line, so that measured rows stand behind `n_context` tokens."""
    left = n_context
    while left > 0:
        rows = min(left, engine.loaded.llama.n_batch - n_decode)
        engine.timed_step(rows)
        left -= rows


def costs(
    loaded: OpenModel, n_decode: Sequence[int], n_prompt: Sequence[int], n_context: int, n_times: int
) -> Costs:
    """Measure every cell of the table, and at `n_context` what contexts cost."""
    middle = n_prompt[len(n_prompt) // 2]
    decode_position = _slope(loaded, n_decode[len(n_decode) // 2 + 1], 0, n_context, n_times)
    prompt_position = _slope(loaded, 0, middle, n_context, n_times)
    forward, outside = [], []
    for n in n_decode:
        cells: dict[int, list[Sample]] = {rows: [] for rows in n_prompt}
        for sample in samples(loaded, n, n_prompt, SHORT, n_times):
            cells[sample.load.n_prompt].append(sample)
        forward.append(
            tuple(
                _median(_without_context(s, decode_position, prompt_position) for s in cells[rows])
                for rows in n_prompt
            )
        )
        outside.append(tuple(_median(s.outside_s for s in cells[rows]) for rows in n_prompt))
    return Costs(tuple(forward), tuple(outside), decode_position, prompt_position)


def _slope(loaded: OpenModel, n_decode: int, n_prompt: int, n_context: int, n_times: int) -> float:
    """Seconds for each position that a row looks at."""
    ends = [samples(loaded, n_decode, [n_prompt], n, n_times) for n in (SHORT, n_context)]
    seconds = [_median(s.forward_s for s in of_end) for of_end in ends]
    positions = [
        _median(s.load.decode_positions + s.load.prompt_positions for s in of_end) for of_end in ends
    ]
    return max((seconds[1] - seconds[0]) / (positions[1] - positions[0]), 0.0)


def _without_context(sample: Sample, decode_position: float, prompt_position: float) -> float:
    load = sample.load
    return max(
        sample.forward_s - decode_position * load.decode_positions - prompt_position * load.prompt_positions,
        0.0,
    )


def _median(values: Iterable[float]) -> float:
    """The median; 0 of a cell in which nothing is computed."""
    found = list(values)
    return statistics.median(found) if found else 0.0
