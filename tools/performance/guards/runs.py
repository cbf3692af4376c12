"""Guards measured in processes of their own, one for each kernel path: what a process compiles for is chosen once."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llorch.kernels.paths import PATHS, VARIABLES

ROOT = Path(__file__).resolve().parents[3]
_PATH_VARIABLE = VARIABLES[0]


def _output(path: str | None, *arguments: str) -> str:
    """What Python prints on a kernel path; None is the one it chooses itself."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    if path is not None:
        environment[_PATH_VARIABLE] = path
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True
    ).stdout


@functools.cache
def runnable_paths() -> tuple[str, ...]:
    """The kernel paths of this CPU, the one that it chooses itself first."""
    ask = ("-c", "from llorch.kernels import paths; print(paths.path())")
    best = _output(None, *ask).strip()
    others = PATHS[PATHS.index(best) + 1 :]
    return (best, *(path for path in others if _output(path, *ask).strip() == path))


def measure(
    path: str, names: Iterable[str] | None = None, *, planted: float = 0.0, times: int = 1
) -> dict[str, list[float]]:
    """Ratios by name of the guards, `times` of each.

    Args:
        path: one of `runnable_paths`; the first runs unmasked, as it does for users.
        names: of the guards wanted; None for all.
        planted: a loss of speed to be simulated, as a share.
        times: values of each.
    """
    wanted = {"names": None if names is None else sorted(names), "planted": planted, "times": times}
    mask = None if path == runnable_paths()[0] else path
    found: dict[str, Any] = json.loads(
        _output(mask, "-m", "tools.performance.guards.worker", json.dumps(wanted))
    )
    if found["path"] != path:
        raise RuntimeError(f"the kernels of {path} were wanted, those of {found['path']} ran")
    ratios: dict[str, list[float]] = found["ratios"]
    return ratios
