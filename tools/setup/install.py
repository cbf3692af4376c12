"""Install the clone into its own virtual environment, from wheels only. Run by environment.sh.

The versions are those of constraints.txt; LLORCH_NEWEST=1 takes the newest ones that pyproject.toml allows, and
LLORCH_LOWEST=1 the lowest ones of what llorch itself needs.
Standard library only. Two runs at once wait for each other; a run that was killed half-way leaves a marker,
and the next one starts the environment afresh.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

FOR_DEVELOPERS = ("browser", "dev", "docs", "oracles", "reference", "test")
"""Extras whose lower bounds nobody but contributors meets, who have the locked versions."""

PIP = ["-m", "pip", "--disable-pip-version-check", "--no-input"]


def say(text: str) -> None:
    """Print to stderr; stdout belongs to the command that runs afterwards."""
    print(f"llorch: {text}", file=sys.stderr, flush=True)


def run_pip(command: list[str]) -> int:
    """Run pip: a terminal shows its newest line; after a failure its last 30 lines are printed."""
    show = sys.stderr.isatty()
    width = shutil.get_terminal_size().columns - 4
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(line)
            if show:
                print(f"\r\x1b[K  {line.strip()[:width]}", end="", file=sys.stderr, flush=True)
    if show:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if pip.returncode:
        print("".join(lines[-30:]), end="", file=sys.stderr, flush=True)
    return pip.returncode


def make_environment(folder: Path) -> None:
    """Make an empty environment, marked as made by llorch and as unfinished."""
    say(f"first run: making {folder} with Python {sys.version.split()[0]} (this happens once)")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "llorch-created").touch()
    (folder / "llorch-installing").touch()
    venv.EnvBuilder(with_pip=True).create(folder)


def lowest_versions(pyproject: str) -> list[str]:
    """Constraints such as ``"numpy==2.0"``: the lower bounds of what llorch and its extras for users need.

    Args:
        pyproject: text of a `pyproject.toml` whose requirements have the form ``"numpy>=2.0"``.
    """
    project = tomllib.loads(pyproject)["project"]
    for_users = [extra for extra in project["optional-dependencies"] if extra not in FOR_DEVELOPERS]
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in for_users)]
    return sorted(
        {re.sub(r"\[.*\]", "", requirement).replace(">=", "==") for group in groups for requirement in group}
    )


def pip_options(constraints: Path, which: str, pyproject: str, folder: Path) -> list[str]:
    """What pip is told about versions.

    Args:
        constraints: the locked versions.
        which: ``"locked"``, ``"newest"`` or ``"lowest"``.
        pyproject: text of `pyproject.toml`.
        folder: for the constraints that are made here.
    """
    if which == "newest":
        return ["--upgrade", "--upgrade-strategy=eager"]
    if which == "locked":
        return ["--constraint", str(constraints)]
    made = folder / "lowest.txt"
    made.write_text("\n".join(lowest_versions(pyproject)) + "\n", encoding="utf-8")
    return ["--constraint", str(made)]


def wanted_versions() -> str:
    """``"newest"`` or ``"lowest"``, if the environment says so, else ``"locked"``."""
    asked = [name for name in ("newest", "lowest") if os.environ.get(f"LLORCH_{name.upper()}") == "1"]
    if len(asked) > 1:
        say("LLORCH_NEWEST=1 and LLORCH_LOWEST=1 contradict each other; set one of them")
        sys.exit(2)
    return asked[0] if asked else "locked"


def install(root: Path, folder: Path, extra: str) -> int:
    """Make the environment if needed, then install; the stamp is written last."""
    python = folder / "bin" / "python"
    marker = folder / "llorch-installing"
    stamp = folder / f"llorch-{extra}.stamp"
    which = wanted_versions()
    constraints = root / "tools" / "setup" / "constraints.txt"
    pyproject = (root / "pyproject.toml").read_text(encoding="utf-8")
    wanted = f"{root}\n" + ("lowest\n" if which == "lowest" else "") + pyproject
    if which == "locked":
        wanted += constraints.read_text(encoding="utf-8")
    is_whole = os.access(python, os.X_OK) and not marker.exists()
    # What the tests need includes what the product needs.
    enough = [stamp, folder / "llorch-test.stamp"] if extra == "base" else [stamp]
    if is_whole and any(s.exists() and s.read_text(encoding="utf-8") == wanted for s in enough):
        return 0  # another run did it while this one waited for the lock
    is_ours = (folder / "llorch-created").exists()
    if not folder.exists() or not any(folder.iterdir()) or (is_ours and not is_whole):
        make_environment(folder)
    elif not os.access(python, os.X_OK):
        say(f"{folder} is no working virtual environment; remove it, or set LLORCH_VENV to another place")
        return 2
    marker.touch()
    for old in folder.glob("llorch-*.stamp"):  # they describe the packages that are replaced now
        old.unlink()
    target = str(root) if extra == "base" else f"{root}[{extra}]"
    say("installing packages (wheels only, no compiler)")
    with tempfile.TemporaryDirectory() as made:
        versions = pip_options(constraints, which, pyproject, Path(made))
        code = run_pip([str(python), *PIP, "install", "--only-binary=:all:", *versions, "--editable", target])
    if code:
        say(f"the installation failed (pip's exit code {code}; its last lines are above)")
        if which == "locked":
            say(
                "LLORCH_NEWEST=1 tries the newest versions instead of the ones in tools/setup/constraints.txt"
            )
        return 1
    stamp.write_text(wanted, encoding="utf-8")
    marker.unlink()
    return 0


def main() -> int:
    """Take the lock (on the clone's own folder, so that no lock file is left), then install."""
    root, folder, extra = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    lock = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another run is installing; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return install(root, folder, extra)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        say(f"cannot set up the environment: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("interrupted; the next run starts over")
        sys.exit(130)
