"""An ARM Python with llorch's packages, in a folder, for QEMU's user-mode emulation:

    python -m tools.arm.environment FOLDER

Debian's packages for arm64 and PyPI's wheels for aarch64 are unpacked, not installed: neither root nor a change of this
system is needed. It takes Debian, `qemu-user-static` or `qemu-user`, and 600 MB. What is complete is not made again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
CPUS = {"i8mm": "max", "neon": "cortex-a76", "generic": "cortex-a72"}
"""QEMU's CPU whose best kernel path is this one."""

EXECUTABLE_VARIABLE = "ARM_PYTHON"
"""Environment variable that names the script which starts the emulated Python, for its children."""

_SYSTEM_PACKAGES = ("python3", "libstdc++6")
_TEST_PACKAGES = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "gguf")
_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
_APT_SETTINGS = """APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::State "{apt}/state";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}/cache";
"""
_CHILDREN = f"""import os, sys
sys.executable = os.environ.get("{EXECUTABLE_VARIABLE}", sys.executable)
"""
"""`sitecustomize`: what starts another Python starts the emulator, not a file that this CPU cannot run."""


def emulator() -> str | None:
    """The path of QEMU's emulator of ARM programs; None where there is none."""
    return next(filter(None, map(shutil.which, EMULATORS)), None)


def site_folder(folder: Path) -> Path:
    """Where the wheels are unpacked."""
    return folder / "site"


def make(folder: Path) -> None:
    """Unpack everything into `folder`, unless it is there.

    Raises:
        subprocess.CalledProcessError: apt-get, dpkg-deb or pip failed; their words are on stderr.
    """
    stamp = folder / "complete"
    if stamp.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    _unpack_system(folder / "apt", root)
    (python,) = (root / "usr" / "bin").glob("python3.[0-9]*[0-9]")
    _unpack_wheels(site_folder(folder), python.name.removeprefix("python"))
    stamp.write_text(f"{python.name}\n")


def python(folder: Path, cpu: str) -> Path:
    """A script that runs the Python of `folder` on an emulated CPU, written anew.

    Args:
        folder: from `make`.
        cpu: QEMU's name of it.
    """
    name = (folder / "complete").read_text().strip()
    script = folder / f"python-{cpu}"
    root = folder.absolute() / "root"
    command = f'exec {emulator()} -cpu {cpu} -L "{root}" "{root}/usr/bin/{name}" "$@"'
    script.write_text(f'#!/bin/sh\nexport {EXECUTABLE_VARIABLE}="{script.absolute()}"\n{command}\n')
    script.chmod(0o755)
    return script


def _unpack_system(apt: Path, root: Path) -> None:
    archives = apt / "cache" / "archives"
    for path in (apt / "state" / "lists" / "partial", archives / "partial", root):
        path.mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    settings = apt / "apt.conf"
    settings.write_text(_APT_SETTINGS.format(apt=apt.absolute()))
    for words in (["update"], ["install", "--yes", "--download-only", *_SYSTEM_PACKAGES]):
        _run(["env", f"APT_CONFIG={settings}", "apt-get", "-q", *words])
    for package in sorted(archives.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(root)])


def _unpack_wheels(site: Path, version: str) -> None:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    _run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(site),
         *platforms, "--python-version", version, "--only-binary=:all:", "--upgrade",
         "--constraint", str(REPOSITORY / "tools" / "setup" / "constraints.txt"), *wanted, *_TEST_PACKAGES]
    )  # fmt: skip
    (site / "sitecustomize.py").write_text(_CHILDREN)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    if emulator() is None:
        raise SystemExit(f"none of {', '.join(EMULATORS)} is here (Debian: apt install qemu-user-static)")
    make(Path(sys.argv[1]))
