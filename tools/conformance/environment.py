"""The virtual environment of the clients: made once, kept beside the clone.

    python -m tools.conformance.environment           make it with the versions of constraints.txt
    python -m tools.conformance.environment --lock    make it with the newest versions and write constraints.txt

`.venv-conformance` in the clone (CONFORMANCE_VENV overrides). No client needs PyTorch, and none is installed.
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
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
REQUIREMENTS = FOLDER / "requirements.txt"
CONSTRAINTS = FOLDER / "constraints.txt"
HEADER = """\
# Exact versions of the clients and of what they need: what `python -m tools.conformance.run` installs.
# Made by `python -m tools.conformance.environment --lock`; do not edit.
"""
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


def environment_folder() -> Path:
    """Where the environment is, or will be."""
    return Path(os.environ.get("CONFORMANCE_VENV") or ROOT / ".venv-conformance")


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


def _make(folder: Path, *options: str) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    venv.EnvBuilder(with_pip=True).create(folder)
    python = folder / "bin" / "python"
    _pip(python, "install", "--quiet", "--no-compile", *options, "--requirement", str(REQUIREMENTS))
    return python


def _fingerprint() -> str:
    """Of what the environment is made from."""
    parts = (sys.version.encode(), REQUIREMENTS.read_bytes(), CONSTRAINTS.read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def ensure_environment() -> Path:
    """The environment's Python; the environment is made first if it is missing or of other versions.

    Two runs at once wait for each other. The stamp is written last, so that a run that was killed starts over.

    Raises:
        InstallError: pip failed.
    """
    folder = environment_folder()
    stamp = folder / "llorch-conformance.stamp"
    wanted = _fingerprint()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text("utf-8") != wanted:
            print(f"making {folder} (this happens once)", file=sys.stderr, flush=True)
            _make(folder, "--constraint", str(CONSTRAINTS))
            stamp.write_text(wanted, "utf-8")
    finally:
        os.close(lock)
    return folder / "bin" / "python"


def lock() -> None:
    """Make the environment with the newest versions and write them down."""
    folder = environment_folder()
    frozen = _pip(_make(folder), "freeze")
    CONSTRAINTS.write_text(HEADER + frozen, "utf-8")
    (folder / "llorch-conformance.stamp").write_text(_fingerprint(), "utf-8")


def main(argv: list[str]) -> int:
    """Make the environment, or lock its versions; the exit code."""
    try:
        if argv == ["--lock"]:
            lock()
        elif argv:
            print(__doc__, file=sys.stderr)
            return 2
        else:
            print(ensure_environment())
    except InstallError as error:
        print(f"conformance: the clients could not be installed:\n{error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
