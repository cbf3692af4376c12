"""Requests under way, from when they arrive until their last token has come, and the figures of a run."""

from __future__ import annotations

from dataclasses import dataclass

from tools.performance.cluster.figures import Tally
from tools.performance.cluster.replica import Sent
from tools.performance.cluster.workload import Job

MAX_TRIES = 5


@dataclass(slots=True)
class _Track:
    n_tries: int = 1
    last_s: float = 0.0


class Answers:
    """What clients see.

    Attributes:
        tally: the figures so far; exchange it to begin anew.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self._tracks: dict[int, _Track] = {}

    def begin(self, job: Job) -> None:
        """A request is sent for the first time."""
        self.tally.begin_s = min(self.tally.begin_s, job.arrival_s)
        self._tracks[job.number] = _Track()

    def may_try_again(self, job: Job) -> bool:
        """Whether a client that was refused, or lost its replica, comes back; else it gives up."""
        track = self._tracks[job.number]
        if track.n_tries == MAX_TRIES:
            self.tally.n_refused += 1
            del self._tracks[job.number]
            return False
        track.n_tries += 1
        return True

    def count(self, sent: Sent, now_s: float) -> None:
        """A token has come."""
        tally, track = self.tally, self._tracks[sent.job.number]
        tally.n_tokens += 1
        tally.end_s = now_s
        if sent.is_first:
            tally.first_s.append(now_s - sent.job.arrival_s)
        else:
            tally.gaps.add(now_s - track.last_s)
        track.last_s = now_s
        if sent.is_last:
            tally.n_finished += 1
            tally.n_prompt += len(sent.job.token_ids)
            tally.n_cached += sent.n_cached
            del self._tracks[sent.job.number]
