"""What the HTTP side of a real replica takes, in processor time: told from one stream and from several side by side."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.performance.cluster.real_run import Server, ask_all
from tools.performance.cluster.replica import HTTPCosts
from tools.performance.cluster.step_times import Costs, Load, StepTimes
from tools.performance.cluster.workload import FIRST_ID, LAST_ID, Job

FEW, MANY = 16, 144
"""Tokens of short and of long answers: what their times differ by is that of `MANY - FEW` equal steps."""
SEVERAL = 4
"""Streams side by side, at most as many as the replica computes at once."""
N_PROMPT = 48
"""Tokens of the prompts of requests whose answers are one token."""
TIMES = 3
"""Each measurement is repeated so often, in turn, since one pause of the machine is as long as many steps of a small
model; medians count."""


@dataclass(frozen=True, slots=True)
class _Spent:
    """Processor seconds of the event loop, of the replica's other threads, of the client; bytes of the answers."""

    loop_s: float
    compute_s: float
    client_s: float
    n_bytes: float

    def less(self, other: _Spent, n: int) -> _Spent:
        """The n-th part of what was spent beyond `other`."""
        return _Spent(
            *((a - b) / n for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True))
        )


def http_costs(servers: Sequence[Server], times: int = TIMES) -> HTTPCosts:
    """Measure replicas that compute nothing else, all at the same time.

    A step wakes the event loop once, whatever it has computed. So one stream tells what waking and one event take
    together, and several streams what further events take.

    Args:
        servers: the replicas; costs are those of one.
        times: how often each is measured.

    Returns:
        The costs, but for `step_s` and `enter_s`: what the thread that computes takes for a step (of one stream and of
        several, in the mean) and for a request, all together. `beyond` takes off what the table knows.
    """
    steps: dict[int, list[_Spent]] = {1: [], SEVERAL: []}
    per_request = []
    for i in range(times):
        for n, found in steps.items():
            few, many = (_spend(servers, _streams(n, n_tokens, i)) for n_tokens in (FEW, MANY))
            found.append(many.less(few, (MANY - FEW) * len(servers)))
        spent = _spend(servers, _streams(SEVERAL, 1, i, N_PROMPT))
        per_request.append(spent.less(_Spent(0, 0, 0, 0), SEVERAL * len(servers)))
    one, several = ([*map(median, _columns(found))] for found in steps.values())
    sent = [median(column) for column in _columns(per_request)]
    token_s, client_s = (max(several[k] - one[k], 0.0) / (SEVERAL - 1) for k in (0, 2))
    wake_s, client_wake_s = max(one[0] - token_s, 0.0), max(one[2] - client_s, 0.0)
    return HTTPCosts(
        request_s=max(sent[0] - token_s, 0.0),
        token_s=token_s,
        client_s=client_s,
        token_bytes=several[3] / SEVERAL,
        wake_s=wake_s,
        client_wake_s=client_wake_s,
        client_request_s=max(sent[2] - client_s, 0.0),
        enter_s=sent[1],
        step_s=statistics.mean((one[1], several[1])),
    )


def beyond(measured: HTTPCosts, times: StepTimes, costs: Costs) -> HTTPCosts:
    """What `http_costs` has measured, without what the table of step times has counted already.

    Args:
        measured: costs of real replicas.
        times: the table.
        costs: the part of it that holds for those replicas.
    """
    context = (FEW + MANY) // 2
    loads = [Load(n, 0, n * context, 0) for n in (1, SEVERAL)]
    step_s = max(measured.step_s - statistics.mean(sum(times.seconds(load, costs)) for load in loads), 0.0)
    n_prompt = N_PROMPT * SEVERAL
    prompts = Load(0, n_prompt, 0, n_prompt * (N_PROMPT - 1) // 2)
    enter_s = measured.enter_s - sum(times.seconds(prompts, costs)) / SEVERAL
    return dataclasses.replace(measured, step_s=step_s, enter_s=max(enter_s - step_s / SEVERAL, 0.0))


def shared_core(one: Server, other: Server, times: int = TIMES) -> float:
    """How many times as long steps take on a core that another replica shares: caches are cold after each switch.

    Args:
        one: a replica that computes nothing else.
        other: one on the same core.
        times: how often this is measured.
    """
    factors = []
    for i in range(times):
        jobs = _streams(SEVERAL, MANY, i)
        alone_s = sum(_spend([server], jobs).compute_s for server in (one, other))
        factors.append(_spend([one, other], jobs).compute_s / alone_s)
    return max(median(factors), 1.0)


def median_costs(found: Sequence[HTTPCosts]) -> HTTPCosts:
    """The median of each cost."""
    return HTTPCosts(*(median(column) for column in zip(*map(dataclasses.astuple, found), strict=True)))


def _streams(n: int, n_tokens: int, seed: int, n_prompt: int = 2) -> list[Job]:
    """So many requests; with next to no prompt, all of them begin in the first steps. No cache knows them."""
    source = random.Random(f"{n}/{n_tokens}/{seed}")
    return [
        Job(i, 0.0, tuple(source.choices(range(FIRST_ID, LAST_ID), k=n_prompt)), (FIRST_ID,) * n_tokens)
        for i in range(n)
    ]


def _spend(servers: Sequence[Server], jobs: Sequence[Job]) -> _Spent:
    """What all of `servers` take that answer `jobs` at the same time, each of them all."""

    async def ask_each() -> int:
        return sum(await asyncio.gather(*(ask_all(server, jobs) for server in servers)))

    loop_s, all_s = (-sum(seconds) for seconds in zip(*map(_so_far, servers), strict=True))
    client_s = -time.process_time()
    n_bytes = asyncio.run(ask_each())
    client_s += time.process_time()
    for server in servers:
        so_far = _so_far(server)
        loop_s, all_s = loop_s + so_far[0], all_s + so_far[1]
    return _Spent(loop_s, all_s - loop_s, client_s, n_bytes)


def _so_far(server: Server) -> tuple[float, float]:
    return server.main_thread_s(), server.all_threads_s()


def _columns(found: Sequence[_Spent]) -> Iterable[tuple[float, ...]]:
    return zip(*map(dataclasses.astuple, found), strict=True)


def median(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)
