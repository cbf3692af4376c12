"""A virtual environment for programs that need more than llorch does: made once, kept beside the clone.

Each has a file of requirements, and one of the exact versions that are installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIP = ["-m", "pip", "--disable-pip-version-check", "--no-input"]
UNREACHABLE = re.compile(r"after connection broken by|Temporary failure in name resolution|ProxyError")
"""How pip says that it did not get to an index."""


class InstallError(Exception):
    """pip failed.

    Attributes:
        is_offline: whether no package index could be reached.
    """

    def __init__(self, output: str) -> None:
        super().__init__("\n".join(output.splitlines()[-15:]))
        self.is_offline = bool(UNREACHABLE.search(output))


def _pip(python: Path, *words: str) -> str:
    done = subprocess.run(
        [str(python), *PIP, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InstallError(done.stdout)
    return done.stdout


@dataclass(frozen=True)
class OwnEnvironment:
    """An environment that can be made.

    Attributes:
        name: `.venv-NAME` in the clone is its folder, if the variable `NAME_VENV` names no other one.
        package: the package that has `requirements.txt` and `constraints.txt`, and makes the environment as a program.
    """

    name: str
    package: str

    @property
    def requirements(self) -> Path:
        """What the programs need, with lower bounds."""
        return ROOT.joinpath(*self.package.split("."), "requirements.txt")

    @property
    def constraints(self) -> Path:
        """The exact versions of that and of what it needs."""
        return self.requirements.with_name("constraints.txt")

    @property
    def folder(self) -> Path:
        """Where the environment is, or will be."""
        return Path(os.environ.get(f"{self.name.upper()}_VENV") or ROOT / f".venv-{self.name}")

    @property
    def stamp(self) -> Path:
        """Holds the fingerprint of what the environment was made from; written last."""
        return self.folder / f"llorch-{self.name}.stamp"

    def fingerprint(self) -> str:
        """Of what the environment is made from."""
        parts = (sys.version.encode(), self.requirements.read_bytes(), self.constraints.read_bytes())
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def ensure(self) -> Path:
        """The environment's Python; the environment is made first if it is missing or of other versions.

        Two runs at once wait for each other. A run that was killed left no stamp, so the next one starts over.

        Raises:
            InstallError: pip failed.
        """
        folder, wanted = self.folder, self.fingerprint()
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.parent, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.stamp.is_file() or self.stamp.read_text("utf-8") != wanted:
                print(f"making {folder} (this happens once)", file=sys.stderr, flush=True)
                self._make(self.constraints)
                self.stamp.write_text(wanted, "utf-8")
        finally:
            os.close(lock)
        return folder / "bin" / "python"

    def lock(self, *bounds: Path) -> None:
        """Make the environment with the newest versions, but for those in the files `bounds`; write them down."""
        frozen = _pip(self._make(*bounds), "freeze")
        header = (
            f"# Exact versions of {self.requirements.relative_to(ROOT)} and of what it needs.\n"
            f"# Made by `python -m {self.package}.environment --lock`; do not edit.\n"
        )
        self.constraints.write_text(header + frozen, "utf-8")
        self.stamp.write_text(self.fingerprint(), "utf-8")

    def main(self, argv: list[str], *bounds: Path) -> int:
        """Make the environment, or lock its versions (`--lock`, with `bounds` as in `lock`); the exit code."""
        try:
            if argv == ["--lock"]:
                self.lock(*bounds)
            elif argv:
                print(f"usage: python -m {self.package}.environment [--lock]", file=sys.stderr)
                return 2
            else:
                print(self.ensure())
        except InstallError as error:
            print(f"{self.folder} could not be made:\n{error}", file=sys.stderr)
            return 2
        return 0

    def _make(self, *constraints: Path) -> Path:
        shutil.rmtree(self.folder, ignore_errors=True)
        venv.EnvBuilder(with_pip=True).create(self.folder)
        python = self.folder / "bin" / "python"
        options = [word for path in constraints for word in ("--constraint", str(path))]
        _pip(python, "install", "--quiet", *options, "--requirement", str(self.requirements))
        return python
