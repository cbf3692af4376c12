"""Serve's real router with llorch's choice of replicas, without a cluster: runs in Ray's environment.

Prints `done` when everything was routed. A loop that never waits keeps it from ending.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID, RequestMetadata
from ray.serve.request_router import PendingRequest

from llorch.ray_serve.ask import Ask
from llorch.ray_serve.router import LIGHT_RESERVE, PrefixRouter

N_SLOTS = 2
ENGINE = DeploymentID("Replica", "llorch")


class Replica:
    """A replica that says how many requests it has, or hangs."""

    max_ongoing_requests = N_SLOTS + LIGHT_RESERVE

    def __init__(self, name: str, n_ongoing: int = N_SLOTS) -> None:
        self.replica_id = ReplicaID(name, ENGINE)
        self.n_ongoing: int | None = n_ongoing

    async def get_queue_len(self, *, deadline_s: float) -> int:
        if self.n_ongoing is None:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        assert self.n_ongoing is not None
        return self.n_ongoing


class Requests:
    """Requests that look for a replica, as the handle of a deployment lets them."""

    def __init__(self, router: Any) -> None:
        self._router = router
        self._n = 0

    def start(self, *, generates: bool, replica: str | None = None) -> asyncio.Task[Any]:
        self._n += 1
        metadata = RequestMetadata(request_id=f"{self._n}", internal_request_id=f"{self._n}")
        ask = Ask({}, b"", is_generation=generates, replica=replica)
        pending = PendingRequest(args=[ask], kwargs={}, metadata=metadata)
        return asyncio.create_task(self._router._choose_replica_for_request(pending))


async def main() -> None:
    router = PrefixRouter(
        deployment_id=ENGINE,
        handle_source=DeploymentHandleSource.REPLICA,
        self_actor_id="gateway",
        use_replica_queue_len_cache=True,
    )
    router.initialize_state()
    one, two = Replica("one"), Replica("two")
    requests = Requests(router)
    early = requests.start(generates=True)  # there is no replica yet
    await asyncio.sleep(0)
    router.update_replicas([one, two])
    waiting = [early, *(requests.start(generates=True) for _ in range(2))]  # for slots
    assert await requests.start(generates=False) in (one, two)
    assert await requests.start(generates=False, replica="two") is two
    assert await requests.start(generates=False, replica="gone") in (one, two)
    one.n_ongoing = None  # it hangs
    router.replica_queue_len_cache.invalidate_key(one.replica_id)
    assert await requests.start(generates=False, replica="one") is one
    two.n_ongoing = 0
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result() for task in waiting if task.done()} == {two}
    two.n_ongoing = N_SLOTS
    left = [requests.start(generates=True) for _ in range(20)]
    await asyncio.sleep(0)
    for task in left:
        task.cancel()
    await asyncio.wait(left)
    router.update_replicas([])
    router.update_replicas([Replica("three", 0), Replica("four", 0)])
    await asyncio.gather(*waiting)
    while router.curr_num_routing_tasks:
        await asyncio.sleep(0.01)
    assert not router._pending_requests_by_id
    print("done")


if __name__ == "__main__":
    asyncio.run(main())
