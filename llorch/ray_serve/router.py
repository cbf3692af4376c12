"""Which replica gets a request: one with a free slot that has read its beginning, else the less busy of any two.

Runs in the gateway, on the event loop of its handle. A replica's load is what it has reported last, as Serve's cache
of queue lengths has it, and the requests on their way to it: of those that come at once, each is counted before the
next one is routed. Serve forgets a report after some seconds, so what holds slots for longer is asked for again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

from ray.exceptions import RayError
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from llorch.ray_serve.ask import Ask
from llorch.ray_serve.holders import Holders
from llorch.ray_serve.known_replicas import note_replicas
from llorch.ray_serve.sent import Sent

LIGHT_RESERVE = 16
"""Of the requests that a replica takes at a time, those that are kept for requests that generate nothing: they and
`POST /cancel` shall get through where all slots are taken."""

PROBE_S = 0.1
"""How long a replica may take to say how many requests it has."""


class PrefixRouter(RequestRouter):
    """Prefers the replica that holds the prefix of a request, and never waits for it."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Called once by Serve, with `request_router_kwargs`."""
        self._holders: Holders[ReplicaID] = Holders()
        self._sent: Sent[ReplicaID] = Sent(time.monotonic)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Called by Serve whenever a replica comes or goes."""
        super().update_replicas(replicas)
        note_replicas(self.app_name, (replica.replica_id.unique_id for replica in replicas))

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Replicas to try, most wanted first; Serve takes the least busy of a rank, and asks again if all are full."""
        ask = _ask_of(pending_request)
        if pending_request is None or ask is None:
            return [_two_of(candidate_replicas)]
        # Else Serve asks again at once, in a loop that never waits and lets nothing else run.
        pending_request.routing_context.should_backoff = True
        named = [replica for replica in candidate_replicas if replica.replica_id.unique_id == ask.replica]
        # If it is gone, any other one says as well that it does not run what is to be cancelled.
        by_id = {replica.replica_id: replica for replica in named or candidate_replicas}
        if not ask.is_generation:
            # It takes no slot; a replica that hangs shows by those that it does not accept.
            free = {name: self._sent.count(name) for name in by_id}
            for replica in named:
                self._spare_question(replica)
        else:
            await self._ask_unknown(by_id, self._holders.find(ask.keys, by_id))
            free = self._free_of(by_id) or await self._freed(by_id)
        if pending_request.future.done():  # given up: Serve sees it when it has candidates
            return [candidate_replicas]
        if not free:
            return []
        others = _two_of([by_id[name] for name in free])
        chosen = self._holders.find(ask.keys, free)
        if chosen is None:
            chosen = min((replica.replica_id for replica in others), key=free.__getitem__)
        # Nothing was awaited since the loads were read: the next request finds this one counted.
        self._sent.note(pending_request.metadata.internal_request_id, chosen)
        return [[by_id[chosen]], others]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Called by Serve when a replica has accepted a request, and has said how many it has now."""
        ask = _ask_of(pending_request)
        if ask is not None:
            self._holders.record(ask.keys, replica_id)
        self._sent.arrived(pending_request.metadata.internal_request_id)

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Called by Serve when it sends a request, which `Sent` counts until the replica does.

        Serve would add it to the replica's last report, where the next report, which may not know of it, overwrites it.
        """

    def _load(self, replica_id: ReplicaID) -> int | None:
        """Requests that a replica has or is about to have; None if its last report is too old to count."""
        n_reported = self.replica_queue_len_cache.get(replica_id)
        return None if n_reported is None else int(n_reported) + self._sent.count(replica_id)

    def _spare_question(self, replica: RunningReplica) -> None:
        """Serve would ask a replica of unknown load how busy it is until it says so, and route nothing meanwhile."""
        if self._load(replica.replica_id) is None:
            self.replica_queue_len_cache.update(replica.replica_id, int(replica.max_ongoing_requests) - 1)

    def _free_of(self, candidates: Mapping[ReplicaID, RunningReplica]) -> dict[ReplicaID, int]:
        """Those of `candidates` that are known to have a free slot, and their loads."""
        loads = {name: self._load(name) for name in candidates}
        return {
            name: load for name, load in loads.items() if load is not None and load < _limit(candidates[name])
        }

    async def _ask_unknown(
        self, candidates: Mapping[ReplicaID, RunningReplica], holder: ReplicaID | None
    ) -> None:
        """Ask two replicas of unknown load for it, and the holder of the prefix if its load is unknown."""
        unknown = {name: replica for name, replica in candidates.items() if self._load(name) is None}
        asked = {replica.replica_id: replica for replica in _two_of(list(unknown.values()))}
        if holder is not None and holder in unknown:
            asked[holder] = unknown[holder]
        await asyncio.gather(*map(self._ask_load, asked.values()))

    async def _freed(self, candidates: Mapping[ReplicaID, RunningReplica]) -> dict[ReplicaID, int]:
        """One of `candidates`, which all seemed full, if it is not: this gateway sees only its own requests end."""
        if not candidates:
            return {}
        name = random.choice(list(candidates))
        await self._ask_load(candidates[name])
        return self._free_of({name: candidates[name]})

    async def _ask_load(self, replica: RunningReplica) -> None:
        """Ask a replica for its load. One that is dead or slow stays unknown; Serve finds out by itself which it is."""
        try:
            async with asyncio.timeout(PROBE_S):
                n_ongoing = await replica.get_queue_len(deadline_s=PROBE_S)
        except (RayError, TimeoutError):  # it would end Serve's task, and nobody would route the request
            return
        self.replica_queue_len_cache.update(replica.replica_id, n_ongoing)


def _limit(replica: RunningReplica) -> int:
    """Requests that a replica may have when it is sent a generation."""
    return max(int(replica.max_ongoing_requests) - LIGHT_RESERVE, 1)


def _two_of(replicas: list[RunningReplica]) -> list[RunningReplica]:
    return random.sample(replicas, min(2, len(replicas)))


def _ask_of(pending_request: PendingRequest | None) -> Ask | None:
    """The request as the gateway sent it; None for calls that come from elsewhere."""
    args = () if pending_request is None else pending_request.args
    return args[0] if args and isinstance(args[0], Ask) else None
