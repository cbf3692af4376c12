"""What so many users cost, and how near each part is to its limit: arithmetic on measured constants and figures."""

from __future__ import annotations

import dataclasses
import functools
import tracemalloc
from dataclasses import dataclass

from tools.performance.cluster.capacity import Promise, Setup
from tools.performance.cluster.routing import PREFIX_PIECE, PrefixAffine
from tools.performance.cluster.workload import Mix

PROCESS_BYTES = 110 << 20
"""A server process without weights and KV cache: Python, the compiler, buffers."""
FEWEST_JOBS = 40
"""So many requests are simulated at least, however few users there are: percentiles of fewer say nothing."""
SLICE_USERS = 2000
"""More users than that are simulated as one of many equal parts."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What some number of users cost.

    Attributes:
        n_users: who are active.
        n_simulated: how many of them were simulated; the rest is proportion.
        n_replicas: replicas of one thread that keep the promise: as many cores.
        figures: of the simulated run.
        tokens_per_s: generated, all together.
        memory_bytes: of all replicas: weights, KV cache, process.
        event_loop: share of one core that the HTTP side of one replica takes.
        n_proxy_cores: cores of a proxy that does for each request and each token what the HTTP side of a replica does.
        network_bytes_per_s: of all streams together.
        router_bytes: of a router that remembers where each user's conversation was read.
    """

    n_users: int
    n_simulated: int
    n_replicas: int
    figures: dict[str, float]
    tokens_per_s: float
    memory_bytes: float
    event_loop: float
    n_proxy_cores: float
    network_bytes_per_s: float
    router_bytes: float


def bill(setup: Setup, mix: Mix, promise: Promise) -> Bill:
    """Simulate the users of `mix`, or an equal part of them, with ever more replicas until `promise` is kept."""
    n_simulated = min(mix.n_users, SLICE_USERS)
    parts = mix.n_users / n_simulated
    part = dataclasses.replace(mix, n_users=n_simulated)
    enough = dataclasses.replace(setup, seconds=max(setup.seconds, FEWEST_JOBS / part.jobs_per_s))
    n, figures = enough.fewest(part, promise)
    n_replicas = round(n * parts)
    tokens_per_s = figures["tokens_per_s"] * parts
    times, http = setup.times, setup.http
    event_loop = figures["loop_s"] / figures["replica_s"]
    kv_bytes = setup.settings.parallel * setup.settings.ctx_size * times.about["kv_bytes_per_token"]
    return Bill(
        n_users=mix.n_users,
        n_simulated=n_simulated,
        n_replicas=n_replicas,
        figures=figures,
        tokens_per_s=tokens_per_s,
        memory_bytes=n_replicas * (times.about["weight_bytes"] + kv_bytes + PROCESS_BYTES),
        event_loop=event_loop,
        n_proxy_cores=event_loop * n_replicas,
        network_bytes_per_s=tokens_per_s * http.token_bytes,
        router_bytes=mix.n_users * mix.n_ctx / 2 / PREFIX_PIECE * router_entry_bytes(),
    )


@functools.cache
def router_entry_bytes(n: int = 2000) -> float:
    """Memory of a remembered beginning of a prompt."""
    router = PrefixAffine(1, max_keys=n)
    tracemalloc.start()
    try:
        router.choose(range(n * PREFIX_PIECE), {0: 0})
        return tracemalloc.get_traced_memory()[0] / router.n_keys
    finally:
        tracemalloc.stop()
