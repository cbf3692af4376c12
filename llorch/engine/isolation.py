"""Whose fault it is when the scheduler raises: each sequence is tried alone, and those with which it raises fail."""

from __future__ import annotations

import logging
from typing import TypeAlias

from llorch.engine.scheduler import Chunk, Scheduler
from llorch.engine.sequence import Sequence

logger = logging.getLogger(__name__)

Failures: TypeAlias = list[tuple[Sequence, Exception]]


def admit(scheduler: Scheduler) -> Failures:
    """Give places to waiting sequences; those that cannot get one, although there are places, and why."""
    failures: Failures = []
    before = set(scheduler.running)
    try:
        scheduler.admit()
    except Exception as error:
        _log("admission", error)
        scheduler.take_back([sequence for sequence in scheduler.running if sequence not in before])
        for sequence in list(scheduler.waiting):
            try:
                with scheduler.waiting.only(sequence):
                    scheduler.admit()
            except Exception as own_error:
                failures.append((sequence, own_error))
                continue
            if sequence.slot < 0:
                break  # no place is left
    return failures


def schedule(scheduler: Scheduler, n_rows: int) -> tuple[list[Chunk], Failures]:
    """The chunks of the next step, and sequences that have to fail before there can be any."""
    try:
        return scheduler.schedule(n_rows), []
    except Exception as error:
        _log("scheduling", error)
    failures: Failures = []
    for sequence in list(scheduler.running):
        try:
            with scheduler.only_running(sequence):
                scheduler.schedule(n_rows)
        except Exception as own_error:
            failures.append((sequence, own_error))
    if failures:
        return [], failures
    try:
        return scheduler.schedule(n_rows), []
    except Exception as error:  # no single one is at fault
        return [], [(sequence, error) for sequence in scheduler.running]


def _log(what: str, error: Exception) -> None:
    logger.warning("%s failed (%s); the generation at fault is sought", what, type(error).__name__)
