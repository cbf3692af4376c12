"""llorch on Ray Serve while it changes: nodes, numbers of replicas, models and settings, under load."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.live_server import NO_TLS, WAIT_S, wait_until
from tests.support.ray_cluster import RayCluster, start_cluster
from tests.support.ray_requests import LONG, Answer, Clients, all_of, completion_on_each

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHORT = {"prompt": "Once upon a time", "max_tokens": 40, "seed": 5, "ignore_eos": True}
SAMPLED = {"prompt": "Once upon a time", "max_tokens": 24, "seed": 7, "temperature": 0.9, "logprobs": 3}
ONE_CPU = {"model": "demo", "num_cpus": 1, "parallel": 2, "max_waiting": 20}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    cluster = start_cluster(tmp_path_factory.mktemp("ray") / "log")
    yield cluster
    cluster.stop()


@pytest.fixture
def clients(cluster: RayCluster) -> Iterator[Clients]:
    clients = Clients(cluster.url)
    yield clients
    clients.close()


class Load:
    """Short generations, one after the other from each of a few clients, for as long as it is entered."""

    def __init__(self, clients: Clients, n_clients: int = 3) -> None:
        self.answers: list[Answer] = []
        self._clients = clients
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(n_clients)]

    def _run(self) -> None:
        while not self._is_over.is_set():
            self.answers.append(self._clients.start(**SHORT)[1].result(WAIT_S))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(WAIT_S)

    def wait_for(self, n_answers: int) -> None:
        until(lambda: len(self.answers) >= n_answers)


def until(condition: Callable[[], Any]) -> None:
    for _ in wait_until(2 * WAIT_S):  # a new replica may take a minute on a busy machine
        if condition():
            return
    raise TimeoutError


def test_a_node_that_comes_and_one_that_goes_lose_only_what_was_on_the_one_that_goes(
    cluster: RayCluster, clients: Clients
) -> None:
    nodes = [cluster.call("add_node"), cluster.call("add_node")]
    cluster.call("deploy", {**ONE_CPU, "min_replicas": 2}, {})
    before = cluster.call("wait_until_running", 2)
    (expected,) = {str(choices) for choices in completion_on_each(cluster.url, before, **SAMPLED).values()}
    with Load(clients) as load:
        load.wait_for(6)
        nodes.append(cluster.call("add_node"))
        on_it = {replica for replica in before if cluster.call("node_of", replica) == nodes[0]}
        assert len(on_it) == 1
        streams = [clients.start(**LONG) for _ in range(2)]
        until(lambda: all(len(answer.events) > 2 for answer, _ in streams))
        cluster.call("remove_node", nodes[0])
        until(lambda: not on_it & set(cluster.call("replicas")))
        after = cluster.call("wait_until_running", 2)
        until(lambda: {answer.replica for answer in load.answers[-12:]} >= set(after))
    answers = [*load.answers, *all_of(streams)]
    lost = [answer for answer in answers if answer.last[0] != "end"]
    assert {answer.last[1].get("code") for answer in lost if answer.status == 200} <= {"replica_lost"}
    assert {answer.replica for answer in lost} <= on_it
    assert not on_it & set(after)
    assert len({answer.text for answer in load.answers if answer.last[0] == "end"}) == 1
    assert {str(choices) for choices in completion_on_each(cluster.url, after, **SAMPLED).values()} == {
        expected
    }


def test_an_update_of_the_settings_under_load_loses_no_request(cluster: RayCluster, clients: Clients) -> None:
    before = set(cluster.call("replicas"))
    with Load(clients) as load:
        load.wait_for(3)
        cluster.call("deploy", {**ONE_CPU, "min_replicas": 2, "alias": "second"}, {})
        until(lambda: not before & set(cluster.call("replicas")))
        after = set(cluster.call("wait_until_running", 2))
        n = len(load.answers)
        load.wait_for(n + 6)
    assert not before & after
    assert {answer.last[0] for answer in load.answers} == {"end"}
    assert {answer.text for answer in load.answers} == {load.answers[0].text}
    models = httpx.get(f"{cluster.url}/v1/models", timeout=WAIT_S, verify=NO_TLS).json()
    assert models["data"][0]["id"] == "second"


def test_replicas_are_added_under_load_and_removed_when_it_is_over(
    cluster: RayCluster, clients: Clients
) -> None:
    scaling = {
        "min_replicas": 1,
        "max_replicas": 2,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 2.0,
        "metrics_interval_s": 0.5,
        "look_back_period_s": 2.0,
        "policy": {"policy_function": "llorch.ray_serve.autoscaling:replicas_for_load"},
    }
    cluster.call("deploy", {**ONE_CPU, "max_replicas": 2}, {"autoscaling_config": scaling})
    until(lambda: len(cluster.call("replicas")) == 1)
    with Load(clients, n_clients=6) as load:
        cluster.call("wait_until_running", 2)
        n = len(load.answers)
        load.wait_for(n + 12)
        assert len({answer.replica for answer in load.answers[n:]}) == 2
    until(lambda: len(cluster.call("replicas")) == 1)
    assert {answer.last[0] for answer in load.answers} == {"end"}


def test_a_replica_whose_model_file_changed_is_replaced(
    cluster: RayCluster, clients: Clients, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    shutil.copy(tiny_model, model)
    cluster.call("deploy", {**ONE_CPU, "model": str(model), "weights": "mapped"}, {})
    (before,) = cluster.call("wait_until_running", 1)
    os.utime(model, ns=(0, 1))
    until(lambda: cluster.call("replicas") not in ([], [before]))
    (after,) = cluster.call("wait_until_running", 1)
    (answer,) = all_of([clients.start(prompt="Hello", max_tokens=4)])
    assert (answer.replica, answer.last[0]) == (after, "end")
