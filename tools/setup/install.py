"""Install the clone into its own virtual environment, from wheels only. Run by environment.sh.

The versions are those of constraints.txt; LLORCH_NEWEST=1 takes the newest ones that pyproject.toml allows.
Standard library only. Two runs at once wait for each other; a run that was killed half-way leaves a marker,
and the next one starts the environment afresh.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

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


def install(root: Path, folder: Path, extra: str) -> int:
    """Make the environment if needed, then install; the stamp is written last."""
    python = folder / "bin" / "python"
    marker = folder / "llorch-installing"
    stamp = folder / f"llorch-{extra}.stamp"
    takes_newest = os.environ.get("LLORCH_NEWEST") == "1"
    constraints = root / "tools" / "setup" / "constraints.txt"
    wanted = f"{root}\n{(root / 'pyproject.toml').read_text(encoding='utf-8')}"
    if not takes_newest:
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
    versions = (
        ["--upgrade", "--upgrade-strategy=eager"] if takes_newest else ["--constraint", str(constraints)]
    )
    code = run_pip([str(python), *PIP, "install", "--only-binary=:all:", *versions, "--editable", target])
    if code:
        say(f"the installation failed (pip's exit code {code}; its last lines are above)")
        if not takes_newest:
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
