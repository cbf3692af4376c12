"""A server in a process of its own, on a free port: llorch's or llama.cpp's."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
READY_S = 300.0
"""The kernels may have to be compiled first."""
KEY = "conformance"


class ServerError(Exception):
    """A server did not start, or ended before it was told to."""


def llorch_command(model: str, n_parallel: int, *flags: str) -> list[str]:
    """The command line of `llorch serve`, but for the port."""
    words = ["-m", model, "-np", str(n_parallel), "--alias", "served", "--api-key", KEY]
    return [sys.executable, "-m", "llorch", "serve", *words, *flags]


def llama_server_command(program: Path, model: str, n_parallel: int, *flags: str) -> list[str]:
    """The command line of `llama-server`, but for the port."""
    words = ["-m", model, "-np", str(n_parallel), "--alias", "served", "--api-key", KEY]
    return [str(program), *words, "--no-webui", *flags]


@contextlib.contextmanager
def serving(
    command: Sequence[str], log_path: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """URL and process of a server that answers; it is ended on leaving.

    Args:
        command: without the port.
        log_path: where what it prints is kept.

    Raises:
        ServerError: it did not start.
    """
    python_path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with _log(log_path) as log, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": python_path},
        )
        url = f"http://127.0.0.1:{port}"
        try:
            if not _is_ready(url, process):
                log.seek(0)
                said = log.read()[-1500:].decode(errors="replace")
                raise ServerError(f"{Path(command[0]).name} did not start:\n{said}")
            yield url, process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _log(path: Path | None) -> IO[bytes]:
    """A file for what a server prints."""
    return tempfile.TemporaryFile() if path is None else path.open("w+b")


def _is_ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the model's name is told; False if the process ends, or the time does."""
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # of which urllib's errors are a kind
            if _answers(url, "/health") and _is_loaded(url):
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return bool(answer.status == 200)
        time.sleep(0.1)
    return False


def _answers(url: str, path: str) -> bool:
    with urllib.request.urlopen(url + path, timeout=10) as answer:
        return bool(answer.status == 200)


def _is_loaded(url: str) -> bool:
    """llorch tells by `/ready`; llama-server has no such route, and by then it is."""
    try:
        return _answers(url, "/ready")
    except urllib.error.HTTPError as error:
        return error.code in (401, 404)
