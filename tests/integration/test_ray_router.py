"""llorch's choice of replicas in Serve's own router: every request is routed, and the router always waits meanwhile."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.conftest import REPOSITORY
from tests.support.ray_cluster import ray_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LIMIT_S = 300.0
"""It takes two seconds, or for ever."""


def test_serves_router_routes_every_request_and_is_never_busy_for_ever() -> None:
    done = subprocess.run(
        [str(ray_python()), "-m", "tests.support.ray_router"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "Unexpected error" not in done.stderr  # an error in the choice of a replica, which Serve only logs
