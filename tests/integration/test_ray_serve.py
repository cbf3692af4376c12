"""llorch on Ray Serve: what clients get from replicas on several nodes, which come, go and die meanwhile."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import httpx
import pytest

from tests.support.live_server import NO_TLS, WAIT_S, LiveServer, wait_until
from tests.support.ray_cluster import RayCluster, start_cluster
from tests.support.ray_requests import Answer, Clients, all_of, completion_on_each, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TWO = {"num_cpus": 1, "min_replicas": 2, "parallel": 2, "max_waiting": 2}
SAMPLED = {"prompt": "Once upon a time", "max_tokens": 24, "seed": 7, "temperature": 0.9, "logprobs": 3}
GREEDY = {**SAMPLED, "temperature": 0}
LONG = {"prompt": "Once", "max_tokens": 1500, "seed": 3, "ignore_eos": True}
ENDLESS = {**LONG, "max_tokens": 60_000}
"""Whatever happens meanwhile, it has not come to its end."""


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
    """Two replicas, whatever the tests before have left."""
    if cluster.call("status")["status"] == "ABSENT":
        cluster.call("deploy", {**TWO, "model": str(long_model)}, {})
    replicas: list[str] = cluster.call("wait_until_running", 2)
    return replicas


Named = dict[str, tuple[Answer, Future[Answer]]]
"""Streams by the names of their jobs."""


def cancelled(cluster: RayCluster, streams: Named) -> list[Answer]:
    """The answers of streams that do not end by themselves, once they are cancelled: each has what the others have."""
    for name in streams:
        done = httpx.post(f"{cluster.url}/cancel", json={"job_id": name}, timeout=WAIT_S, verify=NO_TLS)
        assert done.status_code == 200
    answers = all_of(list(streams.values()))
    assert {answer.last[1]["finish_reason"] for answer in answers} == {"abort"}
    longest = max((answer.text for answer in answers), key=len)
    assert all(longest.startswith(answer.text) for answer in answers)
    return answers


def compute_threads() -> set[int]:
    """How many threads compute in each replica: one steps, and a team helps it."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ServeReplica:llorch:Replica" in (process / "cmdline").read_bytes():
                names = [(task / "comm").read_text().strip() for task in (process / "task").iterdir()]
                found.add(1 + sum(re.fullmatch(r"llorch-\d+", name) is not None for name in names))
        except OSError:
            continue  # it has ended meanwhile
    return found


def test_every_replica_gives_the_bits_of_a_server_on_one_machine(
    cluster: RayCluster, two: list[str], long_model: Path, tmp_path: Path
) -> None:
    server = LiveServer(long_model, tmp_path / "log").wait_until_ready()
    for body in (SAMPLED, GREEDY):
        expected = server.post("/v1/completions", json=body).json()["choices"]
        assert completion_on_each(cluster.url, two, **body) == dict.fromkeys(two, expected)
    server.stop()


def test_the_clients_of_a_killed_replica_get_an_error_event_and_nobody_else_notices(
    cluster: RayCluster, clients: Clients, two: list[str]
) -> None:
    expected = completion_on_each(cluster.url, two, **SAMPLED)[two[0]]
    pids = cluster.call("pids")
    streams: Named = {f"stream-{i}": clients.start(**ENDLESS, job_id=f"stream-{i}") for i in range(4)}

    def begun(name: str) -> bool:
        return len(streams[name][0].events) > 2

    # Chance may send three to one replica, where the third waits.
    until(lambda: {answer.replica for name, (answer, _) in streams.items() if begun(name)} == set(two))
    killed = next(answer.replica for answer, _ in streams.values() if answer.replica)
    os.kill(pids[killed], signal.SIGKILL)
    until(lambda: all(future.done() or begun(name) for name, (_, future) in streams.items()))
    until(lambda: all(future.done() for answer, future in streams.values() if answer.replica == killed))
    broken = {
        name: streams.pop(name) for name, (answer, _) in list(streams.items()) if answer.replica == killed
    }
    assert broken
    for answer in all_of(list(broken.values())):
        name, data = answer.last
        assert (name, data.get("code"), data.get("retriable")) == ("error", "replica_lost", True)
    cancelled(cluster, streams)  # also those that waited at the killed one
    for _ in wait_until(WAIT_S):  # the controller has to notice first
        if killed not in cluster.call("replicas"):
            break
    after = cluster.call("wait_until_running", 2)
    assert killed not in after
    assert completion_on_each(cluster.url, after, **SAMPLED) == dict.fromkeys(after, expected)


def test_a_client_that_leaves_ends_its_generation(cluster: RayCluster, two: list[str]) -> None:
    body = {**ENDLESS, "job_id": "left"}
    with httpx.stream(
        "POST", f"{cluster.url}/generate", json=body, timeout=WAIT_S, verify=NO_TLS
    ) as response:
        next(response.iter_lines())
    for _ in wait_until(WAIT_S):
        if found := re.search(r"left: (client left|abort|length), \d+ \+ \S+ tokens", cluster.logs()):
            break
    assert found
    assert found[1] == "client left"


def test_a_generation_is_cancelled_wherever_it_runs(
    cluster: RayCluster, clients: Clients, two: list[str]
) -> None:
    streams = [clients.start(**ENDLESS, job_id=f"job-{i}") for i in range(2)]  # neither waits
    for _ in wait_until(WAIT_S):
        if all(len(answer.events) > 2 for answer, _ in streams):
            break
    with httpx.Client(verify=NO_TLS, timeout=WAIT_S) as client:
        cancel = [
            client.post(f"{cluster.url}/cancel", json={"job_id": f"job-{i}"}).status_code for i in range(3)
        ]
    assert cancel == [200, 200, 404]
    assert [answer.last[1]["finish_reason"] for answer in all_of(streams)] == ["abort"] * 2


def test_cancelling_goes_on_while_a_replica_is_gone_and_the_controller_has_not_noticed(
    cluster: RayCluster, clients: Clients, two: list[str]
) -> None:
    completion_on_each(cluster.url, two, prompt="Once", max_tokens=4)
    pids = cluster.call("pids")
    stream = clients.start(**ENDLESS, job_id="long")
    until(lambda: len(stream[0].events) > 2)
    killed = next(name for name in two if name != stream[0].replica)
    os.kill(pids[killed], signal.SIGKILL)
    with httpx.Client(verify=NO_TLS, timeout=WAIT_S) as client:
        cancel = [client.post(f"{cluster.url}/cancel", json={"job_id": name}) for name in ("no", "long")]
    assert [answer.status_code for answer in cancel] == [404, 200]
    assert all_of([stream])[0].last[1]["finish_reason"] == "abort"
    assert all_of([clients.start(**LONG)])[0].text
    until(lambda: killed not in cluster.call("replicas"))  # for the tests behind this one


def test_a_prompt_goes_where_its_beginning_was_read_unless_it_would_have_to_wait(
    cluster: RayCluster, clients: Clients, two: list[str]
) -> None:
    story = "Once upon a time there was a girl who lived in a house by the sea with a cat and a dog. " * 3
    ask = {"max_tokens": 4, "seed": 1}
    (first,) = all_of([clients.start(prompt=story, **ask)])
    again = [all_of([clients.start(prompt=f"{story}Then {word}", **ask)])[0] for word in "abcdef"]
    assert {answer.replica for answer in again} == {first.replica}
    assert all(answer.last[1]["usage"]["cached_tokens"] > 32 for answer in again)
    busy = {**ENDLESS, "prompt": story}
    streams: Named = {}
    for name in ("one", "two", "three", "four"):  # of those that come at once, none is known to be there
        streams[name] = clients.start(**busy, job_id=name)
        until(lambda name=name: bool(streams[name][0].events))  # type: ignore[misc]
    assert {answer.replica for answer in cancelled(cluster, streams)} == set(two)


def test_a_replica_computes_with_as_many_threads_as_it_has_cpus(cluster: RayCluster, two: list[str]) -> None:
    assert set(re.findall(r"is ready: [^,]+, (\d+) threads", cluster.logs())) == {"1"}
    assert compute_threads() == {1}


def test_a_full_line_is_refused_with_the_time_to_come_back(
    cluster: RayCluster, clients: Clients, two: list[str]
) -> None:
    streams = [clients.start(**LONG) for _ in range(30)]
    answers = all_of(streams)
    refused = [answer for answer in answers if answer.status == 503]
    assert 0 < len(refused) <= 24  # two slots of each replica are taken, and two may wait
    assert {answer.status for answer in answers} == {200, 503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert len({answer.text for answer in answers if answer.status == 200}) == 1
