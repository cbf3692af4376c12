"""A Ray cluster in processes of its own, driven by `tests.support.ray_worker` in Ray's environment."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tools.ray_cluster.environment import ENVIRONMENT
from tools.setup.own_environment import InstallError

REPLY_S = 300.0
"""Replicas and nodes take minutes to start on a busy machine."""


def ray_python() -> Path:
    """Python of Ray's environment, which is made if it is not there; skips where it cannot be."""
    try:
        return ENVIRONMENT.ensure()
    except InstallError as error:
        if not error.is_offline:
            raise
        pytest.skip(f"Ray is not installed, and no package index is reachable: {error}")


def start_cluster(log_path: Path, n_nodes: int = 0) -> RayCluster:
    """A cluster in Ray's environment, with so many nodes of one CPU."""
    cluster = RayCluster(ray_python(), log_path)
    for _ in range(n_nodes):
        cluster.call("add_node")
    return cluster


class RayCluster:
    """A head node on loopback with Serve's proxy, and no other nodes yet.

    Args:
        python: of the environment with Ray.
        log_path: gets what the driver of the cluster writes.
    """

    def __init__(self, python: Path, log_path: Path) -> None:
        self._folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # paths of Unix sockets have 107 bytes
        self._log_path = log_path
        # Ray writes the address of its last cluster there, and makes no folder for it.
        Path(self._folder, "ray").mkdir()
        variables = {
            "PYTHONPATH": str(REPOSITORY),
            "RAY_TMPDIR": self._folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_worker_niceness": "0",
            "RAY_raylet_start_wait_time_s": "150",  # the machine may be busy
        }
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), "-m", "tests.support.ray_worker", self._folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=REPOSITORY,
                env={**os.environ, **variables},
            )
        try:
            self.url: str = self._reply()
        except BaseException:
            self._end()
            raise

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of `ClusterWorker`.

        Raises:
            RuntimeError: it raised, with what it said.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, *arguments]).encode() + b"\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> Any:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], REPLY_S)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise RuntimeError(f"no reply: {self._log_path.read_text()[-5000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{answer['error']}\n{self._log_path.read_text()[-5000:]}")
        return answer["result"]

    def logs(self) -> str:
        """What replicas and proxies have logged."""
        return "\n".join(
            path.read_text() for path in Path(self._folder).glob("session_latest/logs/serve/*.log")
        )

    def stop(self) -> None:
        """End all processes of the cluster."""
        try:
            self.call("stop")
            self._process.wait(REPLY_S)
        finally:
            self._end()

    def _end(self) -> None:
        self._process.terminate()  # the driver ends what it has started when it exits
        try:
            self._process.wait(REPLY_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)
