"""What is measured of a server under load: streams at once, a repeated prefix, long prompts beside streams, probes.

Every load returns plain figures: milliseconds and tokens per second by name.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tools.performance.load_client import LoadError, health_s, stream_completion, streams, token_ids

WORDS = Path(__file__).resolve().parents[1] / "demo" / "words.txt"
LONG_PROMPT, N_LONG, PREFIX, HUGE_PROMPT = 2000, 6, 1000, 4000
"""Tokens of the prompts that arrive beside streams, of the repeated prefix, and of the one that is read for long."""
Figures = dict[str, float]


@dataclass(frozen=True)
class Load:
    """How much of it.

    Attributes:
        n_streams: at once.
        n_prompt: tokens of each prompt.
        n_predict: tokens of each answer.
    """

    n_streams: int
    n_prompt: int
    n_predict: int


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def spread_ms(name: str, seconds: Sequence[float]) -> Figures:
    """p50, p95 and p99 in milliseconds."""
    return {f"{name}_p{p}_ms": 1000 * percentile(seconds, p / 100) for p in (50, 95, 99)}


def prompt_ids(port: int, n_tokens: int, seed: str) -> list[int]:
    """The first tokens of words in an order that `seed` determines: no two prompts share a beginning."""
    words = re.findall(r"[a-z]{3,}", WORDS.read_text("utf-8"))
    random.Random(seed).shuffle(words)
    ids = asyncio.run(token_ids(port, " ".join(words[: max(16, 2 * n_tokens)])))
    if len(ids) < n_tokens:
        raise LoadError(f"expected {n_tokens} tokens, got {len(ids)}")
    return ids[:n_tokens]


def at_once(port: int, load: Load, seed: str) -> Figures:
    """All streams begin together; the speed counts from the first request to the last token."""
    prompts = [prompt_ids(port, load.n_prompt, f"{seed}/{i}") for i in range(load.n_streams)]
    done = streams(port, prompts, load.n_predict)
    seconds = max(s.end_s for s in done) - min(s.sent_s for s in done)
    gaps = [gap for s in done for gap in s.gaps_s()]
    tokens_per_s = sum(s.n_tokens for s in done) / seconds
    return {
        "tokens_per_s": tokens_per_s,
        **spread_ms("first", [s.first_s for s in done]),
        **spread_ms("gap", gaps),
        "max_cached": max(s.n_cached for s in done),
    }


def decode_only(port: int, load: Load, seed: str) -> Figures:
    """Streams whose prompts are as short as they get, for comparison with `llorch bench`: decoding alone counts."""
    prompts = [prompt_ids(port, 2 + i, f"{seed}/{i}")[-2:] for i in range(load.n_streams)]
    done = streams(port, prompts, load.n_predict)
    begin_s, end_s = max(s.event_s[0] for s in done), min(s.event_s[-1] for s in done)
    n_events = sum(sum(begin_s < at <= end_s for at in s.event_s) for s in done)
    per_event = sum(s.n_tokens for s in done) / sum(len(s.event_s) for s in done)
    return {"tokens_per_s": n_events * per_event / (end_s - begin_s)}


def repeated_prefix(port: int, load: Load, seed: str) -> Figures:
    """The first text after a prompt that the server has not read before, and after the same prompt again."""
    prompt = prompt_ids(port, PREFIX, seed)
    first, second = (streams(port, [prompt], 4)[0] for _ in range(2))
    return {
        "first_ms": 1000 * first.first_s,
        "again_ms": 1000 * second.first_s,
        "share": second.first_s / first.first_s,
        "cached": second.n_cached,
    }


def beside_long_prompts(port: int, load: Load, seed: str) -> Figures:
    """Time between tokens of half the streams while long prompts arrive one after the other.

    `alone` is the time between tokens of the same streams before: what the machine itself makes of it. `long_first` is
    the time to the first text after a long prompt.
    """
    prompts = [prompt_ids(port, load.n_prompt, f"{seed}/{i}") for i in range(load.n_streams // 2)]
    longs = [prompt_ids(port, LONG_PROMPT, f"{seed}/long{i}") for i in range(N_LONG)]

    async def run() -> tuple[list[float], list[float], list[float]]:
        running = [asyncio.create_task(stream_completion(port, p, 16 * load.n_predict)) for p in prompts]
        await stream_completion(port, prompts[0][:2], load.n_predict // 2)  # by then all of them run
        times_s = [time.perf_counter()]
        await stream_completion(port, prompts[0][:3], 2 * load.n_predict)
        times_s.append(time.perf_counter())
        read = [await stream_completion(port, long, 1 + 1) for long in longs]
        times_s.append(time.perf_counter())
        done = await asyncio.gather(*running)
        alone, beside = (
            [gap for stream in done for gap in stream.gaps_s(begin_s, end_s)]
            for begin_s, end_s in pairwise(times_s)
        )
        return alone, beside, [stream.first_s for stream in read]

    alone, beside, first = asyncio.run(run())
    if not beside:
        raise LoadError("the streams ended before the long prompts were read: a larger -n makes them longer")
    return {
        "long_first_p50_ms": 1000 * percentile(first, 0.5),
        **_steadiness("alone", alone),
        **_steadiness("gap", beside),
    }


def _steadiness(name: str, gaps_s: Sequence[float]) -> Figures:
    """p50, p95, p99, and how many times p50 the last is."""
    figures = spread_ms(name, gaps_s)
    return {**figures, f"{name}_p99_by_p50": figures[f"{name}_p99_ms"] / figures[f"{name}_p50_ms"]}


def probes(port: int, load: Load, seed: str) -> Figures:
    """How long `/health` takes while a very long prompt is read."""
    prompt = prompt_ids(port, HUGE_PROMPT, seed)

    async def run() -> list[float]:
        reading = asyncio.create_task(stream_completion(port, prompt, 1 + 1))
        found = []
        while not reading.done():
            found.append(await health_s(port))
            await asyncio.sleep(0.01)
        await reading
        return found

    return spread_ms("health", asyncio.run(run()))


LOADS: dict[str, tuple[Callable[[int, Load, str], Figures], int]] = {
    "streams": (at_once, 0),
    "decode": (decode_only, 0),
    "prefix": (repeated_prefix, PREFIX + 64),
    "stalls": (beside_long_prompts, LONG_PROMPT + 64),
    "health": (probes, HUGE_PROMPT + 64),
}
"""What can be measured, and the context that it needs at least."""


def context_for(names: Sequence[str], load: Load) -> int:
    """Positions that each sequence needs."""
    most = max(LOADS[name][1] for name in names)
    grown = 16 * load.n_predict if "stalls" in names else load.n_predict
    return -(-max(most, load.n_prompt + grown + 1) // 256) * 256
