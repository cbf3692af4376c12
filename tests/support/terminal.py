"""A command at a real pseudo-terminal, typed to and read like one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
from pathlib import Path
from types import TracebackType

from tests.support.commands import LLORCH
from tests.support.live_server import WAIT_S, wait_until

CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """`llorch ARGUMENTS` as the foreground process of a terminal.

    Attributes:
        attributes_before: how the terminal was set before the command began.
        screen: everything that was written to it.
    """

    def __init__(self, *arguments: str, stdout: Path | None = None, **variables: str) -> None:
        """Start; what is written to stdout goes to the terminal, too, or into a file."""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x18\x00\x78\x00\x00\x00\x00\x00")  # 24 lines of 120
        self.attributes_before = self.attributes()

        def take_terminal() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        out = slave if stdout is None else os.open(stdout, os.O_WRONLY | os.O_CREAT, 0o600)
        self.process = subprocess.Popen(
            [*LLORCH, *arguments],
            stdin=slave,
            stdout=out,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", **variables},
            preexec_fn=take_terminal,
        )
        for descriptor in {out, slave}:
            os.close(descriptor)
        self.screen = ""
        self._n_seen = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def interrupt_reading(self) -> None:
        """Press Ctrl-C once the program waits for keys.

        A signal between Python's last look at signals and its wait for keys is heard with the next key only
        (`readline_until_enter_or_signal` in CPython's Modules/readline.c).
        """
        assert any(self._sleeps() for _ in wait_until(WAIT_S)), f"it does not wait for keys: {self.screen!r}"
        self.type(CTRL_C)

    def _sleeps(self) -> bool:
        """Whether no thread of the program runs or wants to: one may wait for another that has no core just now."""
        states = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return {state.read_text().rpartition(")")[2].split()[0] for state in states} == {"S"}

    def enter(self, text: str) -> None:
        """Type a line."""
        self.type(text + "\n")

    def wait_for(self, pattern: str) -> str:
        """Wait until the screen shows `pattern` behind what was waited for before; what came up to its end."""
        turns = wait_until(WAIT_S)
        while (found := re.search(pattern, self.screen[self._n_seen :])) is None:
            assert next(turns, True) is None, f"{pattern!r} is not on the screen: {self.screen!r}"
            assert self._read(), f"the terminal closed without {pattern!r}: {self.screen!r}"
        begin = self._n_seen
        self._n_seen += found.end()
        return self.screen[begin : self._n_seen]

    def end(self) -> int:
        """Read until the command ends; its exit code."""
        with contextlib.suppress(OSError):
            while self._read():
                pass
        return self.process.wait(WAIT_S)

    def attributes(self) -> list[object]:
        """How the terminal is set (echo, line editing), as `termios` has it."""
        return termios.tcgetattr(self._master)

    def _read(self) -> bool:
        """Read what is there, or wait a little; False when the terminal is closed."""
        if not select.select([self._master], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)
