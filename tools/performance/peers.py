"""Other engines, and how one of their speed tests is run: llama.cpp, ik_llama.cpp, dasLLAMA."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llorch.validation.package_digest import package_at
from tools.performance.peer_runs import (
    PeerError,
    Run,
    SpeedTest,
    command_shown,
    first_of,
    json_line,
    run_process,
)

N_TRIES = 3
"""`llama-batched-bench` logs from a thread, and sometimes exits before its last line is written."""
CELLS = 256
"""llama.cpp rounds contexts to this many positions."""
DAS_PROMPT = 16
"""Tokens of the prompt of each of dasLLAMA's sequences."""


class Peer(Protocol):
    """Another engine."""

    @property
    def name(self) -> str:
        """Its name in tables."""

    @property
    def extra(self) -> tuple[str, ...]:
        """More arguments for its programs."""

    def can_run(self, test: SpeedTest) -> bool:
        """Whether it has a program for `test`."""

    def version(self) -> str:
        """What it says about its version, in one line; empty if it says nothing."""

    def programs(self) -> list[Path]:
        """The programs that are run."""

    def packages(self) -> list[dict[str, Any]]:
        """The installed Python packages that they come from, with the hashes of their files."""

    def run(self, model: Path, test: SpeedTest, n_threads: int, timeout_s: float) -> Run:
        """Run `test` once.

        Raises:
            CannotLoadError: it does not know files of this kind.
            PeerError: it failed.
        """


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp, or what has the command line of its `llama-bench` and `llama-batched-bench`.

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

    def can_run(self, test: SpeedTest) -> bool:
        """Whether there is a program for `test`."""
        return self.program_for(test) is not None

    def version(self) -> str:
        """The lines of `--version` that name a version and a compiler."""
        return next(filter(None, map(_version_of, self.programs())), "")

    def programs(self) -> list[Path]:
        """Those of the two that there are."""
        return [program for program in (self.llama_bench, self.batched_bench) if program is not None]

    def packages(self) -> list[dict[str, Any]]:
        """None: it was built."""
        return []

    def run(self, model: Path, test: SpeedTest, n_threads: int, timeout_s: float) -> Run:
        """Run `test` once; see `Peer`."""
        program = self.program_for(test)
        if program is None:
            raise PeerError(f"{self.name} has no program for {test.name}")
        if test.n_sequences > 1:
            return self._run_batched(program, model, test, n_threads, timeout_s)
        arguments = ["-m", str(model), *test.lengths(), "-t", str(n_threads), "-r", "1", "-o", "json"]
        command = [str(program), *arguments, *self._bench_flags(), *self.extra]
        out, _, wall_s = run_process(program.name, command, timeout_s)
        result = first_of(program.name, out)
        result["model_filename"] = Path(str(result.get("model_filename", ""))).name
        return Run(self.name, command_shown(command), float(result["avg_ts"]), wall_s, result)

    def _bench_flags(self) -> tuple[str, ...]:
        return ()

    def _batched_flags(self) -> tuple[str, ...]:
        return ("--output-format", "jsonl")

    def _batched_result(self, out: str, test: SpeedTest) -> dict[str, float] | None:
        """The test's figures in what the program printed."""
        for result in map(json_line, out.splitlines()):
            if result.get("tg") == test.n_tokens and result.get("pl") == test.n_sequences:
                return result
        return None

    def _run_batched(
        self, program: Path, model: Path, test: SpeedTest, n_threads: int, timeout_s: float
    ) -> Run:
        """`n_sequences` prompts of one token, then generation.

        A tiny second test follows, because the last line may get lost (see `N_TRIES`).
        """
        n_ctx = test.n_sequences * -(-(1 + test.n_tokens) // CELLS) * CELLS
        lengths = ["-npp", "1", "-ntg", f"{test.n_tokens},1", "-npl", str(test.n_sequences)]
        threads = ["-t", str(n_threads), "-tb", str(n_threads)]
        command = [str(program), "-m", str(model), "-c", str(n_ctx), *lengths, *threads]
        command += [*self._batched_flags(), *self.extra]
        for _ in range(N_TRIES):
            out, err, wall_s = run_process(program.name, command, timeout_s, cwd=tempfile.gettempdir())
            if result := self._batched_result(out + err, test):
                return Run(self.name, command_shown(command), float(result["speed_tg"]), wall_s, result)
        raise PeerError(f"{program.name} printed no result for {test.name}, {N_TRIES} times")


@dataclass(frozen=True)
class IkLlamaCpp(LlamaCpp):
    """ik_llama.cpp, which re-tiles weights at load if told so; its batched program prints a table, on stderr."""

    def _bench_flags(self) -> tuple[str, ...]:
        return ("-rtr", "1")

    def _batched_flags(self) -> tuple[str, ...]:
        return ("-rtr",)

    def _batched_result(self, out: str, test: SpeedTest) -> dict[str, float] | None:
        number = r"\s*([\d.]+)\s*"
        row = re.search(
            rf"\|\s*1\s*\|\s*{test.n_tokens}\s*\|\s*{test.n_sequences}\s*\|" + rf"{number}\|" * 5, out
        )
        if row is None:
            return None
        figures = zip(("n_kv", "t_pp", "speed_pp", "t_tg", "speed_tg"), row.groups(), strict=True)
        return {name: float(value) for name, value in figures}


@dataclass(frozen=True)
class DasLlama:
    """dasLLAMA. It writes prepared weights beside the model, so it gets a link to it in a folder that is removed.

    Attributes:
        program: its `dasllama-bench`.
        folder: for the links and what appears beside them.
        extra: more arguments.
    """

    program: Path
    folder: Path
    extra: tuple[str, ...] = ()
    name: str = "dasLLAMA"

    def can_run(self, test: SpeedTest) -> bool:
        """It runs every test."""
        return True

    def version(self) -> str:
        """It does not say; pip's record lies beside the program."""
        return next((f"version: {package['version']}" for package in self.packages()), "")

    def programs(self) -> list[Path]:
        """Its only one."""
        return [self.program]

    def packages(self) -> list[dict[str, Any]]:
        """What pip recorded beside the program."""
        records = self.program.resolve().parents[1].glob("lib/python*/site-packages/dasllama-*.dist-info")
        return [package_at(path) for path in sorted(records)]

    def run(self, model: Path, test: SpeedTest, n_threads: int, timeout_s: float) -> Run:
        """Run `test` once; see `Peer`."""
        link = self.folder / model.name
        if not link.is_symlink():
            link.symlink_to(model)
        batched = (
            ["--npl", str(test.n_sequences), "--npl-plen", str(DAS_PROMPT)] if test.n_sequences > 1 else []
        )
        command = [
            str(self.program),
            "-m",
            str(link),
            *test.lengths(),
            *batched,
            "-t",
            str(n_threads),
            "-r",
            "1",
        ]
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            records = Path(folder) / "records.json"
            command += [*self.extra, "-o", "json", "--json-path", str(records)]
            out, _, wall_s = run_process(self.program.name, command, timeout_s)
            try:
                (model_record,) = json.loads(records.read_text("utf-8"))
                speed = float(model_record["runs"][0]["tests"][test.name]["tok_s"])
            except (OSError, ValueError, LookupError, TypeError):
                raise PeerError(
                    f"{self.program.name} recorded no speed for {test.name}: {out[-200:]!r}"
                ) from None
        return Run(self.name, command_shown(command), speed, wall_s, {"tok_s": speed})


def _version_of(program: Path) -> str:
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{program} cannot be run ({error})") from None
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    named = "; ".join(line for line in lines if line.startswith(("version", "built")))
    return named if done.returncode == 0 else ""
