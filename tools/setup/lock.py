"""Write `constraints.txt`: the versions that `tools/llorch`, `tools/test` and CI install.

    python -m tools.setup.lock            resolve the newest versions for every supported Python, write the file
    python -m tools.setup.lock --check    compare the file with the newest versions for the running Python

Exit codes: 0 done or equal, 1 different, 2 not resolved. pip evaluates markers such as `python_version < "3.13"` for
the Python that runs it, so run this with the oldest supported one: it needs all packages that newer ones need.
Standard library only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNNING_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CONSTRAINTS = ROOT / "tools" / "setup" / "constraints.txt"
HEADER = """\
# Exact versions of all packages that `pip install .[test]` brings: what tools/llorch, tools/test and CI install.
# Made by `python -m tools.setup.lock`; do not edit. LLORCH_NEWEST=1 installs the newest versions instead.
"""


def supported_pythons(root: Path = ROOT) -> list[str]:
    """The Python versions that the classifiers of `pyproject.toml` name, such as ``"3.11"``, oldest first."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    found = re.findall(
        r"Programming Language :: Python :: (3\.\d+)$", "\n".join(project["classifiers"]), re.M
    )
    return sorted(found, key=lambda version: int(version.split(".")[1]))


def canonical(name: str) -> str:
    """The name of a distribution as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def newest_versions(python: str, root: Path = ROOT) -> dict[str, str]:
    """Versions by name that pip chooses today for the `test` extra under Python `python`, from wheels only."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq"]
        command += ["install", "--dry-run", "--ignore-installed", "--only-binary=:all:"]
        # pip wants a target folder for another Python's packages; a dry run does not make it.
        command += ["--python-version", python, "--target", str(Path(folder) / "target")]
        subprocess.run([*command, "--report", str(report), f"{root}[test]"], check=True, stdout=sys.stderr)
        installed = json.loads(report.read_text("utf-8"))["install"]
    versions = {canonical(item["metadata"]["name"]): item["metadata"]["version"] for item in installed}
    del versions["llorch"]
    return versions


def constraint_lines(versions: dict[str, dict[str, str]]) -> list[str]:
    """One line per package and version; a marker where the Pythons differ.

    Args:
        versions: version by package, by Python.
    """
    lines = []
    for name in sorted(set().union(*versions.values())):
        pythons: dict[str, list[str]] = {}
        for python, found in versions.items():
            if name in found:
                pythons.setdefault(found[name], []).append(python)
        for version, those in pythons.items():
            marker = " or ".join(f'python_version == "{python}"' for python in those)
            lines.append(f"{name}=={version}" + (f" ; {marker}" if len(pythons) > 1 else ""))
    return lines


def locked_versions(text: str, python: str) -> dict[str, str]:
    """Versions by package that the constraints in `text` hold for Python `python`."""
    lines = re.findall(r"^([\w.-]+)==([\w.+!-]+)(?: ; (.+))?$", text, re.M)
    return {name: version for name, version, marker in lines if not marker or f'"{python}"' in marker}


def check() -> int:
    """Print how the newest versions differ from the locked ones; 1 if they do."""
    locked = locked_versions(CONSTRAINTS.read_text("utf-8"), RUNNING_PYTHON)
    newest = newest_versions(RUNNING_PYTHON)
    changes = [
        f"{name}: locked {locked.get(name, 'not at all')}, newest {version}"
        for name, version in sorted(newest.items())
        if locked.get(name) != version
    ]
    print("\n".join(changes) or f"the newest versions for Python {RUNNING_PYTHON} are the locked ones")
    return 1 if changes else 0


def main() -> int:
    """Write or check the constraints."""
    if sys.argv[1:] == ["--check"]:
        return check()
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    lines = constraint_lines({python: newest_versions(python) for python in supported_pythons()})
    CONSTRAINTS.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{CONSTRAINTS}: {len(lines)} lines")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        print(f"lock: pip could not resolve the versions (exit code {error.returncode})", file=sys.stderr)
        sys.exit(2)
