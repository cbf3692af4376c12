"""One speed test in one process: llorch, or a peer with `llama-bench`'s command line."""

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
N_TRIES = 3
"""`llama-batched-bench` logs from a thread, and sometimes exits before its last line is written."""
CELLS = 256
"""llama.cpp rounds contexts to this many positions."""


class PeerError(Exception):
    """A program could not be run, or printed no speed."""


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


@dataclass(frozen=True)
class Peer:
    """Another engine.

    Attributes:
        name: its name in tables.
        llama_bench: program for tests of one sequence, or None.
        batched_bench: program for tests of several, or None.
        extra: more arguments for both.
    """

    name: str
    llama_bench: Path | None
    batched_bench: Path | None
    extra: tuple[str, ...] = ()

    def program_for(self, test: SpeedTest) -> Path | None:
        """The program that runs `test`, or None."""
        return self.llama_bench if test.n_sequences == 1 else self.batched_bench


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
    lengths = (
        ["-p", str(test.n_tokens), "-n", "0"] if test.is_prompt else ["-p", "0", "-n", str(test.n_tokens)]
    )
    arguments = ["bench", "-m", str(model), *lengths, "-b", str(test.n_sequences), "-t", str(n_threads)]
    command = [sys.executable, "-m", "llorch", *arguments, "-r", "1", "--json", *extra]
    out, wall_s = _run(LLORCH, command, timeout_s)
    result = _first(LLORCH, out)
    mask = os.environ.get("LLORCH_CPU")
    shown = (f"LLORCH_CPU={mask} " if mask else "") + _shown(["llorch", *command[3:]])
    return Run(LLORCH, shown, float(result["tokens_per_s"]), wall_s, result)


def run_peer(peer: Peer, model: Path, test: SpeedTest, n_threads: int, timeout_s: float) -> Run:
    """Run the peer's program once.

    Raises:
        PeerError: it failed, or `peer` has no program for this test.
    """
    program = peer.program_for(test)
    if program is None:
        raise PeerError(f"{peer.name} has no program for {test.name}")
    if test.n_sequences > 1:
        return _run_batched(peer, program, model, test, n_threads, timeout_s)
    lengths = (
        ["-p", str(test.n_tokens), "-n", "0"] if test.is_prompt else ["-p", "0", "-n", str(test.n_tokens)]
    )
    arguments = ["-m", str(model), *lengths, "-t", str(n_threads), "-r", "1", "-o", "json"]
    command = [str(program), *arguments, *peer.extra]
    out, wall_s = _run(program.name, command, timeout_s)
    result = _first(program.name, out)
    result["model_filename"] = Path(str(result.get("model_filename", ""))).name
    return Run(peer.name, _shown(command), float(result["avg_ts"]), wall_s, result)


def _run_batched(
    peer: Peer, program: Path, model: Path, test: SpeedTest, n_threads: int, timeout_s: float
) -> Run:
    """`n_sequences` prompts of one token, then generation.

    A tiny second test follows, because the last line may get lost (see `N_TRIES`).
    """
    n_ctx = test.n_sequences * -(-(1 + test.n_tokens) // CELLS) * CELLS
    lengths = ["-npp", "1", "-ntg", f"{test.n_tokens},1", "-npl", str(test.n_sequences)]
    arguments = ["-m", str(model), "-c", str(n_ctx), *lengths, "-t", str(n_threads), "-tb", str(n_threads)]
    command = [str(program), *arguments, "--output-format", "jsonl", *peer.extra]
    for _ in range(N_TRIES):
        out, wall_s = _run(program.name, command, timeout_s)
        for line in out.splitlines():
            result = _json_line(line)
            if result.get("tg") == test.n_tokens and result.get("pl") == test.n_sequences:
                return Run(peer.name, _shown(command), float(result["speed_tg"]), wall_s, result)
    raise PeerError(f"{program.name} printed no result for {test.name}, {N_TRIES} times")


def peer_version(peer: Peer) -> str:
    """Output of the peer's `--version`, in one line; empty if there is none."""
    for program in (peer.llama_bench, peer.batched_bench):
        if program is None:
            continue
        try:
            done = subprocess.run(
                [program, "--version"], capture_output=True, text=True, errors="replace", timeout=60
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerError(f"{program} cannot be run ({error})") from None
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        if done.returncode == 0:
            return "; ".join(line for line in lines if line.startswith(("version", "built")))
    return ""


def _run(name: str, command: list[str], timeout_s: float) -> tuple[str, float]:
    """Standard output of a process, and its seconds."""
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
            env=os.environ | {"PYTHONPATH": python_path},
        )
    except subprocess.TimeoutExpired:
        raise PeerError(
            f"{name} was stopped after {timeout_s:.0f} s (--timeout): {_shown(command)}"
        ) from None
    except OSError as error:
        raise PeerError(f"{name} cannot be run ({error.strerror}): {command[0]}") from None
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        last = said[-1].strip()[:300] if said else "it said nothing"
        raise PeerError(f"{name} failed with exit code {done.returncode}: {last}")
    return done.stdout, time.perf_counter() - begun


def _first(name: str, out: str) -> dict[str, Any]:
    """The only entry of a JSON list."""
    try:
        (result,) = json.loads(out)
    except (ValueError, TypeError):
        raise PeerError(f"{name} did not print a JSON list with one result: {out[:200]!r}") from None
    if not isinstance(result, dict):
        raise PeerError(f"{name} printed something else than a result: {result!r}")
    return result


def _json_line(line: str) -> dict[str, Any]:
    try:
        result = json.loads(line)
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}


def _shown(command: list[str]) -> str:
    """A command line without folders, which differ between machines."""
    return shlex.join(Path(word).name if os.path.isabs(word) else word for word in command)
