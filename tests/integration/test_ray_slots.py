"""llorch on Ray Serve when all slots are taken, and when a process hangs or dies: what waits, what gets through."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import httpx
import pytest

from tests.support.live_server import NO_TLS, WAIT_S
from tests.support.ray_cluster import RayCluster, start_cluster
from tests.support.ray_requests import Answer, Clients, all_of, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TWO = {"num_cpus": 1, "min_replicas": 2, "parallel": 2, "max_waiting": 20}
"""More may wait than the router looks after at a time, two for each replica."""
SHORT = {"prompt": "Once upon a time", "max_tokens": 24, "seed": 7, "temperature": 0.9}
FORGOTTEN_S = 11.0
"""After 10 s Serve forgets how many requests a replica had."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    cluster = start_cluster(tmp_path_factory.mktemp("ray") / "log", n_nodes=2)
    yield cluster
    cluster.stop()


@pytest.fixture
def clients(cluster: RayCluster) -> Iterator[Clients]:
    clients = Clients(cluster.url)
    yield clients
    clients.close()


@pytest.fixture
def two(cluster: RayCluster, long_model: Path) -> list[str]:
    """Two replicas of a model whose context does not fill up."""
    if cluster.call("status")["status"] == "ABSENT":
        cluster.call("deploy", {**TWO, "model": str(long_model)}, {})
    replicas: list[str] = cluster.call("wait_until_running", 2)
    return replicas


class Endless:
    """Generations with the same beginning that hold their slots until they are cancelled."""

    def __init__(self, cluster: RayCluster, clients: Clients) -> None:
        self._url, self._clients = cluster.url, clients
        self._streams: list[tuple[Answer, Future[Answer]]] = []

    def start(self, n: int) -> None:
        """So many at once, until each has begun."""
        body = {"prompt": "The same beginning. " * 20, "max_tokens": 60000, "ignore_eos": True, "seed": 1}
        names = range(len(self._streams), len(self._streams) + n)
        started = [self._clients.start(**body, job_id=f"endless-{i}") for i in names]
        self._streams += started
        until(lambda: all(answer.events for answer, _ in started))

    def cancel(self) -> list[str]:
        """End them; the replicas that they ran on, in order."""
        for i in range(len(self._streams)):
            done = httpx.post(
                f"{self._url}/cancel", json={"job_id": f"endless-{i}"}, timeout=WAIT_S, verify=NO_TLS
            )
            assert done.status_code == 200
        return [answer.replica for answer in all_of(self._streams)]

    def break_off(self) -> None:
        """Wait until the connections of all are cut."""
        for _, future in self._streams:
            assert isinstance(future.exception(WAIT_S), httpx.RemoteProtocolError)


def test_requests_that_come_at_once_take_a_slot_each(
    cluster: RayCluster, clients: Clients, two: list[str]
) -> None:
    for _ in range(4):
        requests = Endless(cluster, clients)
        requests.start(4)
        assert Counter(requests.cancel()) == dict.fromkeys(two, 2)


def test_a_prompt_does_not_wait_for_the_holder_of_its_beginning_however_long_that_is_busy(
    cluster: RayCluster, clients: Clients, two: list[str]
) -> None:
    requests = Endless(cluster, clients)
    requests.start(1)
    requests.start(1)
    time.sleep(FORGOTTEN_S)
    requests.start(1)
    first, second, third = requests.cancel()
    assert first == second
    assert {first, third} == set(two)


def quick(url: str) -> list[int]:
    """What requests that need no slot are answered."""
    with httpx.Client(base_url=url, verify=NO_TLS, timeout=WAIT_S) as client:
        answers = [client.get(path) for path in ("/v1/models", "/ready", "/metrics", "/slots")]
        answers.append(client.post("/tokenize", json={"content": "Once"}))
        answers.append(client.post("/cancel", json={"job_id": "unknown"}))
    return [answer.status_code for answer in answers]


def test_what_needs_no_slot_gets_through_however_many_wait_for_one(
    cluster: RayCluster, clients: Clients, two: list[str]
) -> None:
    requests = Endless(cluster, clients)
    requests.start(4)
    waiting = [clients.start(**SHORT) for _ in range(12)]
    for _ in range(4):  # they reach the router meanwhile
        assert quick(cluster.url) == [200] * 5 + [404]
    assert not any(future.done() for _, future in waiting)
    requests.cancel()
    assert len({answer.text for answer in all_of(waiting)}) == 1


def test_while_a_replica_hangs_the_others_answer_and_it_goes_on_where_it_stopped(
    cluster: RayCluster, clients: Clients, two: list[str]
) -> None:
    pid = cluster.call("pids")[two[0]]
    stream = clients.start(**SHORT)
    os.kill(pid, signal.SIGSTOP)
    try:
        with httpx.Client(base_url=cluster.url, verify=NO_TLS, timeout=WAIT_S) as client:
            assert [client.get("/v1/models").status_code for _ in range(8)] == [200] * 8
        streams = [clients.start(**SHORT) for _ in range(8)]
        until(
            lambda: sum(future.done() for _, future in streams) >= 4
        )  # it has taken as many as it has slots
    finally:
        os.kill(pid, signal.SIGCONT)
    assert len({answer.text for answer in all_of([stream, *streams])}) == 1


def test_a_gateway_that_is_killed_leaves_no_generation_behind(
    cluster: RayCluster, clients: Clients, two: list[str]
) -> None:
    requests = Endless(cluster, clients)
    requests.start(4)
    (pid,) = cluster.call("pids", "Gateway").values()
    os.kill(pid, signal.SIGKILL)
    requests.break_off()
    until(lambda: len(set(re.findall(r"(endless-\d+): client left", cluster.logs()))) == 4)
    body = {**SHORT, "stream": False}

    def status() -> int:
        answer = httpx.post(f"{cluster.url}/generate", json=body, timeout=WAIT_S, verify=NO_TLS)
        return answer.status_code

    until(lambda: status() == 200)
