"""Which process threads and locks belong to: a forked one gets copies of locks, but not the threads that hold them."""

from __future__ import annotations

import os

from llorch.errors import ForkedError

_process_id = os.getpid()


def _note_fork() -> None:
    global _process_id
    _process_id = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class OwningProcess:
    """The process in which it was made; whoever has threads or locks asks it before taking a lock.

    To ask costs no system call, so every step can.
    """

    def __init__(self) -> None:
        self._process_id = _process_id

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in that process, and not in one forked from it."""
        return self._process_id == _process_id

    def check(self) -> None:
        """Refuse to go on in a forked process.

        Raises:
            ForkedError: this is one.
        """
        if self._process_id != _process_id:
            raise ForkedError(
                f"the model was loaded by process {self._process_id}; its compute threads do not follow a fork: "
                "load it anew in this one"
            )
