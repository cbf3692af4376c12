"""What `tools/deploy` says about the server, asked of a live one: probes, metrics, health check, notes to systemd."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment import DEPLOY, expressions, manifests, rule_groups
from tests.support.live_server import WAIT_S, LiveServer

HEALTHCHECK = [sys.executable, "-S", str(DEPLOY / "healthcheck.py")]


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """Where a service manager listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path_factory.mktemp("manager") / "notify"))
        manager.settimeout(WAIT_S)
        yield manager


@pytest.fixture(scope="module")
def server(
    tiny_model: Path, manager: socket.socket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    log = tmp_path_factory.mktemp("server") / "log"
    live = LiveServer(tiny_model, log, "--alias", "tiny", NOTIFY_SOCKET=manager.getsockname())
    yield live
    live.stop()


def healthy(**variables: str) -> int:
    return subprocess.run(
        HEALTHCHECK, env={**os.environ, **variables}, timeout=WAIT_S, check=False
    ).returncode


def test_systemd_hears_when_the_server_is_ready(server: LiveServer, manager: socket.socket) -> None:
    assert manager.recv(1000) == b"READY=1\nSTATUS=serves tiny"
    assert server.get("/ready").status_code == 200


def test_the_health_check_follows_the_server(server: LiveServer) -> None:
    assert healthy(LLORCH_PORT=str(server.port)) == 0
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert healthy(LLORCH_PORT=str(unused.getsockname()[1])) == 1
    assert healthy(LLORCH_PORT=str(server.port), LLORCH_SSL_CERT_FILE="x") == 1, "it speaks no TLS"


def test_probes_are_answered(server: LiveServer) -> None:
    pod = manifests()["deployment"]["spec"]["template"]["spec"]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server.get(pod["containers"][0][kind]["httpGet"]["path"]).status_code == 200


def test_rules_and_dashboard_use_only_metrics_that_there_are(server: LiveServer) -> None:
    path = manifests()["pod-monitor"]["spec"]["podMetricsEndpoints"][0]["path"]
    scrape = server.get(path).text
    families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", scrape, re.MULTILINE))
    known = {
        "up",
        *(rule["record"] for group in rule_groups() for rule in group["rules"] if "record" in rule),
    }
    for name, kind in families.items():
        known |= {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    used = {
        name
        for expression in expressions()
        for name in re.findall(
            r"\b(?:up|llorch|process)(?:[\w:]+|(?=\{))", re.sub(r'"[^"]*"', "", expression)
        )
    }
    assert len(used) > 20
    assert used - known == set()


def test_labels_in_rules_and_dashboard_are_those_of_the_metrics(server: LiveServer) -> None:
    server.get("/nowhere")
    server.post("/generate", json={"prompt": "a", "max_tokens": 1, "stream": False})
    found = set(re.findall(r'(\w+)="', server.get("/metrics").text))
    of_prometheus = {"job", "instance"}
    only_after_errors = {"code"}
    text = "\n".join(expressions())
    used = set(re.findall(r"(\w+)(?:=~|!=|=)\"", text))
    used |= {word for group in re.findall(r"by \(([^)]*)\)", text) for word in group.split(", ")}
    assert used - found <= of_prometheus | only_after_errors


def test_systemd_hears_when_the_server_stops(server: LiveServer, manager: socket.socket) -> None:
    assert server.stop() == 0
    assert manager.recv(1000).startswith(b"STOPPING=1\nSTATUS=0 requests")
    assert healthy(LLORCH_PORT=str(server.port)) == 1
