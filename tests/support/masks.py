"""Which kernel paths this machine has (`LLORCH_CPU`)."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

from tests.conftest import REPOSITORY


@functools.cache
def can_run(mask: str) -> bool:
    """Whether this CPU can run the path of that name."""
    code = "from llorch.kernels import paths; print(paths.path())"
    environment = os.environ | {"LLORCH_CPU": mask}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    return done.stdout.strip() == mask
