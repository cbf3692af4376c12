"""Which replica gets a request: one with a free slot that has read its beginning, else the less busy of any two.

Runs in the gateway, on the event loop of its handle. What it knows of the replicas' loads is Serve's cache of their
queue lengths.
"""

from __future__ import annotations

import random
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from llorch.ray_serve.ask import Ask
from llorch.ray_serve.holders import Holders
from llorch.ray_serve.known_replicas import note_replicas

LIGHT_RESERVE = 16
"""Of the requests that a replica takes at a time, those that are kept for requests that generate nothing: they and
`POST /cancel` shall get through where all slots are taken."""

PROBE_S = 0.1
"""How long a replica that seemed full may take to say that it is not."""


class PrefixRouter(RequestRouter):
    """Prefers the replica that holds the prefix of a request, and never waits for it."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Called once by Serve, with `request_router_kwargs`."""
        self._holders: Holders[ReplicaID] = Holders()

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Called by Serve whenever a replica comes or goes."""
        super().update_replicas(replicas)
        note_replicas(self.app_name, (replica.replica_id.unique_id for replica in replicas))

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Replicas to try, most wanted first; Serve takes the least busy of a rank, and asks again if all are full."""
        ask = _ask_of(pending_request)
        if ask is not None and ask.replica is not None:
            return [
                [replica for replica in candidate_replicas if replica.replica_id.unique_id == ask.replica]
            ]
        if ask is None or not ask.is_generation:
            return [_two_of(candidate_replicas)]
        free = [replica for replica in candidate_replicas if self._has_slot(replica)]
        if not free:
            return [await self._freed(candidate_replicas)]
        by_id = {replica.replica_id: replica for replica in free}
        holder = self._holders.find(ask.keys, by_id)
        others = _two_of(free)
        return [others] if holder is None else [[by_id[holder]], others]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Called by Serve when a replica has accepted a request."""
        ask = _ask_of(pending_request)
        if ask is not None:
            self._holders.record(ask.keys, replica_id)

    def _has_slot(self, replica: RunningReplica) -> bool:
        n_ongoing = self.replica_queue_len_cache.get(replica.replica_id)
        return n_ongoing is None or n_ongoing < _limit(replica)

    async def _freed(self, candidates: list[RunningReplica]) -> list[RunningReplica]:
        """One of `candidates`, which all seemed full, if it is not: the cache knows only this gateway's requests."""
        if not candidates:
            return []
        replica = random.choice(candidates)
        try:
            n_ongoing = await replica.get_queue_len(deadline_s=PROBE_S)
        except (RayActorError, TimeoutError):  # Serve finds out by itself whether it is dead
            return []
        self.on_new_queue_len_info(replica.replica_id, n_ongoing)
        return [replica] if n_ongoing < _limit(replica) else []


def _limit(replica: RunningReplica) -> int:
    """Requests that a replica may have when it is sent a generation."""
    return max(int(replica.max_ongoing_requests) - LIGHT_RESERVE, 1)


def _two_of(replicas: list[RunningReplica]) -> list[RunningReplica]:
    return random.sample(replicas, min(2, len(replicas)))


def _ask_of(pending_request: PendingRequest | None) -> Ask | None:
    """The request as the gateway sent it; None for calls that come from elsewhere."""
    args = () if pending_request is None else pending_request.args
    return args[0] if args and isinstance(args[0], Ask) else None
