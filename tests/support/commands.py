"""The `llorch` command in a process of its own, as a user, a shell or a container runs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from llorch.cli.main import main
from tests.support.live_server import WAIT_S, wait_until

LLORCH = [sys.executable, "-m", "llorch"]


def llorch(*arguments: str | bytes, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `variables` are added to the environment."""
    done = llorch_bytes(*arguments, stdin=stdin.encode(), **variables)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def llorch_bytes(
    *arguments: str | bytes, stdin: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Like `llorch`, with input and output as they are."""
    return subprocess.run(
        [*LLORCH, *arguments],
        input=stdin,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
        env={**os.environ, **variables},
    )


def refused(*arguments: str | bytes, **variables: str) -> str:
    """The one line that a refused command leaves."""
    result = llorch(*arguments, **variables)
    assert result.returncode == 2, result
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "error: " in line
    assert "internal error" not in line
    return line


def refused_here(capsys: pytest.CaptureFixture[str], command: str, *words: object) -> str:
    """The one line that a refused command leaves, run in this process."""
    capsys.readouterr()
    assert main([command, *map(str, words)]) == 2
    out, log = capsys.readouterr()
    assert out == ""
    (line,) = log.splitlines()
    assert "internal error" not in line
    return line


def start(*arguments: str, wrapper: list[str] | None = None, **variables: str) -> subprocess.Popen[bytes]:
    """Begin a command. Interrupts count, even if whoever runs the tests has switched them off."""

    def heed_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        [*(wrapper or []), *LLORCH, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **variables},
        preexec_fn=heed_interrupts,
    )


def handles(process_id: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{process_id}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def has_mapped(process_id: int, library: str) -> bool:
    """Whether a process has loaded a shared library, so far."""
    return library in Path(f"/proc/{process_id}/maps").read_text()


def writes_in(process_id: int, folder: Path) -> bool:
    """Whether a process has opened a file in `folder`, with a name or without."""
    descriptors = Path(f"/proc/{process_id}/fd")
    with contextlib.suppress(FileNotFoundError):  # one is closed meanwhile
        return any(os.readlink(link).startswith(f"{folder}/") for link in descriptors.iterdir())
    return False


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in wait_until(WAIT_S):
        if condition():
            return
    raise TimeoutError


@cache
def _can(*words: str) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", *words, "true"], capture_output=True, check=False).returncode == 0


def namespace(*words: str) -> list[str]:
    """The command that runs another one in namespaces of its own; skips the test where that is not allowed."""
    if not _can(*words):
        pytest.skip(f"`unshare {' '.join(words)}` is not allowed here")
    return ["unshare", *words]


def assert_a_full_disk_leaves_nothing(folder: Path, *words: str) -> None:
    """Run ``llorch WORDS FOLDER/out.gguf`` where `folder` is a disk of 64 KiB: one clear error, and no file."""
    folder.mkdir()
    command, source, *others = words
    script = 'mount -t tmpfs -o size=64k none "$0" && "$@"; echo "$?"; ls -A "$0"'
    llorch = [*LLORCH, command, source, str(folder / "out.gguf"), *others]
    done = subprocess.run(
        [*namespace("--map-root-user", "--mount"), "sh", "-c", script, str(folder), *llorch],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["2"], done.stderr
    assert "cannot be written there: No space left on device" in done.stderr.splitlines()[-1]


def as_process_1() -> list[str]:
    """Runs a command as process 1, as a container does."""
    return namespace("--map-root-user", "--pid", "--fork", "--kill-child")


def as_unknown_user() -> list[str]:
    """Runs a command as a user that the system has no entry for, without privileges."""
    return namespace("--map-user=54321", "--map-group=54321")


def child_of(process: subprocess.Popen[bytes]) -> int:
    """The process that `unshare` has started, once it is there."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: bool(children.read_text().split()))
    return int(children.read_text().split()[0])


def on_read_only_root() -> list[str]:
    """Runs a command where nothing can be written, not even a temporary file."""
    wrapper = namespace("--map-root-user", "--mount")
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    folders = ["/", *(folder for folder in mounts if not folder.startswith(("/proc", "/sys", "/dev")))]
    folders += ["/tmp", "/var/tmp", "/dev/shm"]
    script = f"""
for folder in {" ".join(dict.fromkeys(folders))}; do
    mount --bind $folder $folder 2>/dev/null
    mount -o remount,bind,ro $folder || exit 99
done
cd /
exec "$@"
"""
    return [*wrapper, "sh", "-c", script, "sh"]


def home_environment(**variables: str) -> dict[str, str]:
    """An environment in which nothing but `variables` says where a cache may lie."""
    hidden = ("HOME", "XDG_CACHE_HOME", "LLORCH_CACHE_DIR")
    return {name: value for name, value in os.environ.items() if name not in hidden} | variables


def run_on_read_only_root(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*on_read_only_root(), *LLORCH, command, *arguments],
        env=home_environment(HOME="/nowhere", PYTHONPATH=os.getcwd()),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
