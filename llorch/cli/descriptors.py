"""Standard streams that the parent has closed; nothing is imported that takes long."""

from __future__ import annotations

import os
import sys

closed: set[str] = set()
"""Which of "stdin", "stdout" and "stderr" the parent has closed."""


def open_missing() -> None:
    """Open the null device in place of each standard stream that is closed.

    Otherwise the next file to be opened would get its number, and what a library writes to descriptor 1 or 2 would
    end up in it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            closed.add(name)
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
