"""The same jobs for real: `llorch serve` processes pinned to cores, and a router in the process that loads them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.conformance.served import llorch_command, serving
from tools.performance.cluster.figures import Tally
from tools.performance.cluster.replica import ReplicaSettings
from tools.performance.cluster.routing import Router
from tools.performance.cluster.stream_client import ask
from tools.performance.cluster.workload import Job


@dataclass(frozen=True, slots=True)
class Server:
    """A running replica: where it listens, its process."""

    port: int
    pid: int

    def main_thread_s(self) -> float:
        """Processor time of the thread of its event loop."""
        return _on_cpu_s(Path(f"/proc/{self.pid}/task/{self.pid}/schedstat"))

    def all_threads_s(self) -> float:
        """Processor time of all its threads."""
        return sum(_on_cpu_s(path / "schedstat") for path in Path(f"/proc/{self.pid}/task").iterdir())


def _on_cpu_s(path: Path) -> float:
    return int(path.read_text().split()[0]) / 1e9


@contextlib.contextmanager
def replicas(model: str, n: int, cores: Sequence[int], settings: ReplicaSettings) -> Iterator[list[Server]]:
    """`n` servers of one thread each; the first is pinned to the first of `cores`, and so on, around."""
    flags = ["-t", "1", "-c", str(settings.ctx_size), "-b", str(settings.batch_size)]
    flags += ["--max-waiting", str(settings.max_waiting)]
    command = llorch_command(model, settings.parallel, *flags)
    before = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        found = []
        for i in range(n):
            os.sched_setaffinity(0, {cores[i % len(cores)]})  # the child inherits it
            try:
                url, process = stack.enter_context(serving(command))
            finally:
                os.sched_setaffinity(0, before)
            found.append(Server(int(url.rpartition(":")[2]), process.pid))
        yield found


@contextlib.contextmanager
def client_beside(n_replicas: int, cores: Sequence[int]) -> Iterator[bool]:
    """Meanwhile this process computes on cores without a replica; whether there are any."""
    before = os.sched_getaffinity(0)
    free = set(cores[n_replicas:]) or set(cores)
    os.sched_setaffinity(0, free)
    try:
        yield n_replicas < len(cores)
    finally:
        os.sched_setaffinity(0, before)


def run(servers: Sequence[Server], router: Router, jobs: Sequence[Job]) -> Tally:
    """Send every job when it is due to the replica that `router` chooses."""
    tally = Tally()
    before_s = sum(server.all_threads_s() for server in servers)
    asyncio.run(_run(servers, router, jobs, tally))
    tally.busy_s = sum(server.all_threads_s() for server in servers) - before_s
    return tally


async def _run(servers: Sequence[Server], router: Router, jobs: Sequence[Job], tally: Tally) -> None:
    n_open = dict.fromkeys(range(len(servers)), 0)
    begin_s = time.perf_counter()
    tally.begin_s = min(job.arrival_s for job in jobs)

    async def send(job: Job) -> None:
        await asyncio.sleep(begin_s + job.arrival_s - time.perf_counter())
        name = router.choose(job.token_ids, n_open)
        n_open[name] += 1
        sent_s = time.perf_counter()
        answer = await ask(servers[name].port, job)
        n_open[name] -= 1
        tally.first_s.append(answer.token_s[0] - sent_s)
        for before_s, at_s in zip(answer.token_s, answer.token_s[1:], strict=False):
            tally.gaps.add(at_s - before_s)
        tally.n_tokens += len(job.answer_ids)
        tally.n_prompt += len(job.token_ids)
        tally.n_cached += answer.n_cached
        tally.n_finished += 1
        tally.end_s = max(tally.end_s, answer.token_s[-1] - begin_s)

    await asyncio.gather(*(send(job) for job in jobs))


def warm_up(servers: Sequence[Server], jobs: Sequence[Job]) -> None:
    """Let every server answer `jobs`: what a process does only once is no part of what is compared."""
    for server in servers:
        asyncio.run(ask_all(server, jobs))


async def ask_all(server: Server, jobs: Sequence[Job]) -> int:
    """Bytes of the answers to all of them, sent at once."""
    answers = await asyncio.gather(*(ask(server.port, job) for job in jobs))
    return sum(answer.n_bytes for answer in answers)
