"""One speed test in one process: what is measured, how llorch is, and what every engine's process has in common."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The clone."""

LLORCH = "llorch"
_CANNOT_LOAD = re.compile(
    r"error loading model|(?:failed|unable) to load model|cannot load the model|EXCEPTION: dasLLAMA: ",
    re.IGNORECASE,
)
"""What engines say of a file that they do not know how to run."""


class PeerError(Exception):
    """A program could not be run, or printed no speed."""


class CannotLoadError(PeerError):
    """An engine does not know how to run a file."""


@dataclass(frozen=True)
class SpeedTest:
    """A test by llama-bench's name.

    Attributes:
        name: ``pp512``, ``tg128``, ``tg128@8``.
        is_prompt: whether a prompt is read; else text is generated.
        n_tokens: of each sequence.
        n_sequences: computed together.
    """

    name: str
    is_prompt: bool
    n_tokens: int
    n_sequences: int

    @classmethod
    def parse(cls, name: str) -> SpeedTest:
        """The test called `name`.

        Raises:
            PeerError: there is no such test.
        """
        found = re.fullmatch(r"(pp|tg)([1-9]\d{0,5})(?:@([1-9]\d{0,3}))?", name)
        if found is None or (found[1] == "pp" and found[3]):
            raise PeerError(f"{name!r} is not a test: expected names such as pp512, tg128 or tg128@8")
        return cls(name, found[1] == "pp", int(found[2]), int(found[3] or 1))

    def lengths(self) -> list[str]:
        """The arguments of llama-bench that choose this test, but for the number of sequences."""
        n = str(self.n_tokens)
        return ["-p", n, "-n", "0"] if self.is_prompt else ["-p", "0", "-n", n]


@dataclass(frozen=True)
class Run:
    """The result of one process.

    Attributes:
        engine: name of the engine.
        command: the command line, programs and files by their names alone.
        tokens_per_s: speed.
        wall_s: from start to exit, loading included.
        output: everything it printed about the test.
    """

    engine: str
    command: str
    tokens_per_s: float
    wall_s: float
    output: dict[str, Any]


def run_llorch(model: Path, test: SpeedTest, n_threads: int, extra: tuple[str, ...], timeout_s: float) -> Run:
    """Run `llorch bench` once.

    Raises:
        PeerError: it failed.
    """
    arguments = [
        "bench",
        "-m",
        str(model),
        *test.lengths(),
        "-b",
        str(test.n_sequences),
        "-t",
        str(n_threads),
    ]
    command = [sys.executable, "-m", "llorch", *arguments, "-r", "1", "--json", *extra]
    out, _, wall_s = run_process(LLORCH, command, timeout_s)
    result = first_of(LLORCH, out)
    mask = os.environ.get("LLORCH_CPU")
    shown = (f"LLORCH_CPU={mask} " if mask else "") + command_shown(["llorch", *command[3:]])
    return Run(LLORCH, shown, float(result["tokens_per_s"]), wall_s, result)


def run_process(
    name: str, command: list[str], timeout_s: float, cwd: str | None = None
) -> tuple[str, str, float]:
    """What a process prints on stdout and stderr, and its seconds.

    Raises:
        CannotLoadError: it says that it does not know the model's file.
        PeerError: it failed otherwise.
    """
    python_path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
    begun = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": python_path},
        )
    except subprocess.TimeoutExpired:
        raise PeerError(
            f"{name} was stopped after {timeout_s:.0f} s (--timeout): {command_shown(command)}"
        ) from None
    except OSError as error:
        raise PeerError(f"{name} cannot be run ({error.strerror}): {command[0]}") from None
    if done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        refused = [line for line in said + done.stdout.splitlines() if _CANNOT_LOAD.search(line)]
        if refused:
            raise CannotLoadError(refused[0][:300])
        last = said[-1][:300] if said else "it said nothing"
        raise PeerError(f"{name} failed with exit code {done.returncode}: {last}")
    return done.stdout, done.stderr, time.perf_counter() - begun


def first_of(name: str, out: str) -> dict[str, Any]:
    """The only entry of a JSON list."""
    try:
        (result,) = json.loads(out)
    except (ValueError, TypeError):
        raise PeerError(f"{name} did not print a JSON list with one result: {out[:200]!r}") from None
    if not isinstance(result, dict):
        raise PeerError(f"{name} printed something else than a result: {result!r}")
    return result


def json_line(line: str) -> dict[str, Any]:
    """The JSON object on a line; empty if there is none."""
    try:
        result = json.loads(line)
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}


def command_shown(command: list[str]) -> str:
    """A command line without folders, which differ between machines."""
    return shlex.join(Path(word).name if os.path.isabs(word) else word for word in command)
