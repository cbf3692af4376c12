"""Which replica the router chooses. Serve's part is played by a class that does as its router does with loads."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from llorch.ray_serve.ask import Ask

MODULE = "llorch.ray_serve.router"
N_SLOTS, LIGHT_RESERVE = 2, 16
LOST = "lost"
HANGS = "hangs"


class RayError(Exception):
    """As Ray has it."""


class Reports(dict[Any, int]):
    """Serve's cache of what replicas have reported."""

    def update(self, replica_id: Any, n_ongoing: int) -> None:  # type: ignore[override]
        self[replica_id] = n_ongoing


class ServesRouter:
    """What `PrefixRouter` inherits."""

    app_name = "app"

    def __init__(self) -> None:
        self.replica_queue_len_cache = Reports()
        self.initialize_state()  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Name:
    """The id of a replica."""

    unique_id: str


@dataclass
class FakeReplica:
    """A replica that says how many requests it has, or does not."""

    name: str
    n_ongoing: int | str = 0
    max_ongoing_requests: int = N_SLOTS + LIGHT_RESERVE
    n_asked: int = 0
    replica_id: Name = field(init=False)

    def __post_init__(self) -> None:
        self.replica_id = Name(self.name)

    async def get_queue_len(self, *, deadline_s: float) -> int:
        self.n_asked += 1
        if self.n_ongoing == LOST:
            raise RayError
        if self.n_ongoing == HANGS:
            await asyncio.sleep(60)
        return int(self.n_ongoing)


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    exceptions, request_router = ModuleType("ray.exceptions"), ModuleType("ray.serve.request_router")
    exceptions.RayError = RayError  # type: ignore[attr-defined]
    request_router.RequestRouter = ServesRouter  # type: ignore[attr-defined]
    for name in ("PendingRequest", "ReplicaID", "RunningReplica"):
        setattr(request_router, name, object)
    for module in (ModuleType("ray"), ModuleType("ray.serve"), exceptions, request_router):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    module = importlib.import_module(MODULE)
    monkeypatch.setattr(module, "PROBE_S", 0.01)
    yield module.PrefixRouter()
    sys.modules.pop(MODULE, None)


def request(name: str, *keys: bytes, generates: bool = True, replica: str | None = None) -> Any:
    ask = Ask({}, b"", generates, keys, replica)
    return SimpleNamespace(
        args=(ask,),
        metadata=SimpleNamespace(internal_request_id=name),
        routing_context=SimpleNamespace(should_backoff=False),
        future=Future(),
    )


def chosen(router: Any, replicas: list[FakeReplica], pending: Any) -> str | None:
    """The replica that is wanted most; None if the request has to wait."""
    ranks = asyncio.run(router.choose_replicas(replicas, pending))
    return ranks[0][0].name if ranks else None


def accept(router: Any, replica: FakeReplica, pending: Any) -> None:
    """The replica takes a request and says how many it has."""
    assert isinstance(replica.n_ongoing, int)
    replica.n_ongoing += 1
    router.replica_queue_len_cache.update(replica.replica_id, replica.n_ongoing)
    router.on_request_routed(pending, replica.replica_id, None)


def test_of_requests_that_come_at_once_each_gets_a_slot_and_no_more(router: Any) -> None:
    replicas = [FakeReplica("one"), FakeReplica("two")]
    requests = [request(f"{i}") for i in range(5)]
    names = [chosen(router, replicas, pending) for pending in requests]
    assert sorted(map(str, names[:4])) == ["one", "one", "two", "two"]
    assert names[4] is None
    by_name = {replica.name: replica for replica in replicas}
    for name, pending in zip(names[:4], requests, strict=False):
        router.on_send_request(by_name[str(name)].replica_id)
        accept(router, by_name[str(name)], pending)
    assert [router._load(replica.replica_id) for replica in replicas] == [N_SLOTS, N_SLOTS]


def test_a_report_in_the_middle_of_a_burst_hides_none_of_those_on_their_way(router: Any) -> None:
    replicas = [FakeReplica("one"), FakeReplica("two", n_ongoing=N_SLOTS)]
    requests = [request(f"{i}") for i in range(3)]
    assert [chosen(router, replicas, pending) for pending in requests] == ["one", "one", None]
    for _ in requests[:2]:
        router.on_send_request(replicas[0].replica_id)
    accept(router, replicas[0], requests[0])  # it has one, and does not know of the other
    assert chosen(router, replicas, requests[2]) is None


def test_the_holder_of_the_prefix_is_preferred_while_it_has_a_slot(router: Any) -> None:
    replicas = [FakeReplica("one"), FakeReplica("two")]
    first = request("first", b"beginning")
    name = chosen(router, replicas, first)
    holder = next(replica for replica in replicas if replica.name == name)
    accept(router, holder, first)
    second = request("second", b"beginning", b"and more")
    assert chosen(router, replicas, second) == holder.name
    accept(router, holder, second)
    assert chosen(router, replicas, request("third", b"beginning")) not in (holder.name, None)


def test_a_holder_that_has_said_nothing_for_long_is_asked_before_anything_waits_for_it(router: Any) -> None:
    replicas = [FakeReplica("one"), FakeReplica("two"), FakeReplica("three"), FakeReplica("four")]
    for i in range(N_SLOTS):
        accept(router, replicas[0], request(f"{i}", b"beginning"))
    router.replica_queue_len_cache.clear()  # as Serve does with old reports
    assert chosen(router, replicas, request("next", b"beginning")) in ("two", "three", "four")
    assert replicas[0].n_asked == 1


@pytest.mark.parametrize("state", [LOST, HANGS])
def test_a_replica_that_does_not_say_how_busy_it_is_gets_nothing(router: Any, state: str) -> None:
    replicas = [FakeReplica("one", n_ongoing=state), FakeReplica("two", n_ongoing=1)]
    assert chosen(router, replicas, request("a")) == "two"
    assert chosen(router, replicas, request("b")) is None


def test_a_full_replica_is_asked_whether_it_still_is(router: Any) -> None:
    replica = FakeReplica("one", n_ongoing=N_SLOTS)
    assert chosen(router, [replica], request("a")) is None
    replica.n_ongoing = 0  # requests of another gateway have ended
    assert chosen(router, [replica], request("a")) == "one"


def test_what_generates_nothing_waits_for_no_slot(router: Any) -> None:
    full = [FakeReplica("one", n_ongoing=N_SLOTS)]
    assert chosen(router, full, request("a", generates=False)) == "one"
    assert full[0].n_asked == 0


def test_a_request_for_one_replica_goes_there_however_busy_it_is(router: Any) -> None:
    replicas = [FakeReplica("one", n_ongoing=N_SLOTS), FakeReplica("two")]
    assert chosen(router, replicas, request("a", generates=False, replica="one")) == "one"


def test_a_request_for_one_replica_is_sent_without_a_question_that_would_hold_up_others(router: Any) -> None:
    replicas = [FakeReplica("one", n_ongoing=HANGS), FakeReplica("two")]
    assert chosen(router, replicas, request("a", generates=False, replica="one")) == "one"
    # What Serve takes from its cache: room for it, and little enough that nothing else prefers this replica.
    reported = router.replica_queue_len_cache.get(replicas[0].replica_id)
    assert N_SLOTS <= reported < replicas[0].max_ongoing_requests


def test_a_request_for_a_replica_that_is_gone_goes_to_another(router: Any) -> None:
    assert chosen(router, [FakeReplica("one")], request("a", generates=False, replica="two")) == "one"


def test_what_generates_nothing_avoids_a_replica_that_has_not_accepted_the_last(router: Any) -> None:
    replicas = [FakeReplica("one"), FakeReplica("two", n_ongoing=N_SLOTS)]
    hangs = chosen(router, replicas, request("first", generates=False))
    (other,) = (replica for replica in replicas if replica.name != hangs)
    for i in range(4):
        pending = request(f"{i}", generates=False)
        assert chosen(router, replicas, pending) == other.name
        accept(router, other, pending)


def test_a_request_that_is_given_up_while_replicas_are_asked_counts_nowhere(router: Any) -> None:
    replica, pending = FakeReplica("one"), request("a")

    async def give_up() -> None:
        task = asyncio.create_task(router.choose_replicas([replica], pending))
        while not replica.n_asked:
            await asyncio.sleep(0)
        pending.future.cancel()
        await task

    asyncio.run(give_up())
    assert router._load(replica.replica_id) == 0


def test_a_request_that_was_given_up_waits_no_longer(router: Any) -> None:
    full, pending = FakeReplica("one", n_ongoing=N_SLOTS), request("a")
    assert chosen(router, [full], pending) is None
    pending.future.cancel()
    assert chosen(router, [full], pending) == "one"


@pytest.mark.parametrize("replica", [None, "one", "gone"])
def test_serve_is_told_to_wait_before_it_asks_again(router: Any, replica: str | None) -> None:
    pending = request("a", generates=replica is None, replica=replica)
    chosen(router, [FakeReplica("one", n_ongoing=N_SLOTS)], pending)
    assert pending.routing_context.should_backoff
