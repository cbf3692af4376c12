"""The client of a check, where it computes on the cores of the replicas: one thread for all requests and answers."""

from __future__ import annotations

from tools.performance.cluster.cores import Thread
from tools.performance.cluster.replica import HTTPCosts, Sent
from tools.performance.cluster.workload import Job

CLIENT = Thread(-1, "client")


class SimulatedClient:
    """Does all there is to do whenever it gets a core: tokens that have come together are seen together.

    Attributes:
        to_send: requests that it has not sent yet: replica and job.
        arrived: tokens that it has not read yet.
    """

    def __init__(self, http: HTTPCosts) -> None:
        self.to_send: list[tuple[int, Job]] = []
        self.arrived: list[Sent] = []
        self._http = http
        self._under_way: tuple[list[tuple[int, Job]], list[Sent]] = [], []

    def begin(self) -> float | None:
        """Begin with all of it; what that takes in processor time, or None if it is busy, or there is nothing to do."""
        if any(self._under_way) or not (self.to_send or self.arrived):
            return None
        self._under_way = self.to_send, self.arrived
        self.to_send, self.arrived = [], []
        jobs, tokens = self._under_way
        http = self._http
        seconds = http.client_wake_s + len(tokens) * http.client_s if tokens else 0.0
        return seconds + len(jobs) * http.client_request_s

    def end(self) -> tuple[list[tuple[int, Job]], list[Sent]]:
        """The requests that were sent, with their replicas, and the tokens that were read."""
        done, self._under_way = self._under_way, ([], [])
        return done
