"""Ending a command by a signal: within two seconds, with 128 + the signal's number, without a traceback.

SIGINT and SIGTERM raise `Interrupted` in the main thread, which unwinds as after any error. That does not always
work: the main thread may be inside LLVM for seconds, and an exception raised in a callback of C code is lost. So a
second thread hears of each signal from the C level and ends the process where the main thread has not done so in time.

SIGTERM has a handler of its own because the kernel drops signals without one for process 1 of a container.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

TYPE_CHECKING = False  # what only annotations need takes longer to import than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import NoReturn

UNWIND_S = 1.5
"""How long the main thread may take to end by itself."""

_received: list[int] = []
_before_sudden_end: list[Callable[[], object]] = []


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end."""


def exit_code() -> int | None:
    """The exit code of a process that a signal has asked to end; None if none has."""
    return 128 + _received[0] if _received else None


def end_on_signals() -> None:
    """From now on, SIGINT and SIGTERM end this process. A signal that the parent has switched off stays so.

    A command that installs handlers of its own (the server) is left alone while they are there.
    """
    sys.excepthook, sys.unraisablehook = _print_exception, _print_unraisable
    threading.excepthook = _print_of_thread
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    threading.Thread(target=_end_in_time, args=(reader,), name="llorch-signals", daemon=True).start()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def before_sudden_end(action: Callable[[], object]) -> None:
    """Have `action` done where the process ends without unwinding: what it changed outside itself would stay so."""
    _before_sudden_end.append(action)


def end_process(code: int) -> NoReturn:
    """End this process now: when everything is written, tearing down Python, Numba and LLVM only takes time.

    It is a quarter of a second, in which an interrupt would find Python's own handler; and a compiler that is still at
    work in another thread would crash.
    """
    from contextlib import suppress

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if len(_received) > 1:
        _end_now(number)
    raise Interrupted


def _end_in_time(reader: int) -> None:
    """End the process `UNWIND_S` after the first signal that `_interrupt` handles, if it is still there."""
    while number := next(iter(os.read(reader, 1)), 0):
        if number in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) is _interrupt:
            threading.Event().wait(UNWIND_S)
            _end_now(number)


def _end_now(number: int) -> None:
    from contextlib import suppress

    for action in _before_sudden_end:
        with suppress(Exception):
            action()
    if os.isatty(2):
        os.write(2, b"\r\x1b[K")  # the line of a progress bar
    os._exit(128 + number)


# An exception that nothing can catch is printed by Python: where C code calls back, in destructors, in threads.
# Before a signal it is news. After one it is what the signal has left unfinished (llvmlite's destructors expect what
# their constructors would have set), and the process ends anyway.


def _print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, Interrupted):
        sys.__excepthook__(kind, error, trace)


def _print_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    if not _received:
        sys.__unraisablehook__(unraisable)


def _print_of_thread(args: threading.ExceptHookArgs) -> None:
    if not _received:
        threading.__excepthook__(args)
