"""A Ray cluster of several nodes on this machine, with Serve: runs in Ray's environment, told what to do by lines.

Each line of standard input is a JSON list, a method's name and its arguments; each line of standard output is the
JSON of what it returned, or of its error.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

WAIT_S = 280.0
LOOPBACK = "127.0.0.1"
APP = "llorch"
FIRST_OF_CONNECTIONS = 32_768
"""Linux gives connections ports from here on."""


def _unchanged(host: str) -> str:
    return host


def _no_dashboard() -> Exception:
    return ImportError("the tests need no dashboard")


def free_ports(n: int) -> list[int]:
    """Different ports that nobody listens on now, and that the system does not give to connections meanwhile."""
    found: list[int] = []
    for port in random.sample(range(10_000, FIRST_OF_CONNECTIONS), 1000):
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind((LOOPBACK, port))
            found.append(port)
        if len(found) == n:
            return found
    raise RuntimeError("no ports are free")


AGENT_PORTS = (
    "metrics_agent_port",
    "metrics_export_port",
    "dashboard_agent_listen_port",
    "runtime_env_agent_port",
)


def agent_ports() -> dict[str, int]:
    return dict(zip(AGENT_PORTS, free_ports(len(AGENT_PORTS)), strict=True))


def start_raylet_with_ports(start_raylet: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Write down the ports of a node's agents, which otherwise do it: they have 15 s, too short on a busy machine."""
    from ray._raylet import persist_port

    given = inspect.signature(start_raylet).bind(*args, **options).arguments
    for name in AGENT_PORTS:
        persist_port(given["session_dir"], given["node_id"], name, given[name])
    return start_raylet(*args, **options)


class ClusterWorker:
    """A head node, which only the gateway runs on, and nodes with one CPU each."""

    def __init__(self, temp_dir: str) -> None:
        import ray
        from ray import serve
        from ray.cluster_utils import Cluster
        from ray.serve.config import HTTPOptions, ProxyLocation

        # It would put the address of a network in place of 127.0.0.1, where nothing listens.
        ray._private.services.resolve_ip_for_localhost = _unchanged
        # Agents without the dashboard's modules start sooner.
        ray._private.utils.get_dashboard_dependency_error = _no_dashboard
        services = ray._private.services
        services.start_raylet = functools.partial(start_raylet_with_ports, services.start_raylet)
        head = {"num_cpus": 0, "resources": {"gateway": 1}, "include_dashboard": False}
        common = {"node_ip_address": LOOPBACK, "temp_dir": temp_dir}
        self._cluster = Cluster(initialize_head=True, head_node_args={**head, **common, **agent_ports()})
        self._nodes: dict[str, Any] = {}
        ray.init(self._cluster.address, namespace="serve", log_to_driver=False, _node_ip_address=LOOPBACK)
        (self._port,) = free_ports(1)
        serve.start(ProxyLocation.HeadOnly, HTTPOptions(host=LOOPBACK, port=self._port))

    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    def add_node(self) -> str:
        node = self._cluster.add_node(num_cpus=1, node_ip_address=LOOPBACK, **agent_ports())
        self._nodes[node.node_id] = node
        return str(node.node_id)

    def remove_node(self, node_id: str) -> None:
        self._cluster.remove_node(self._nodes.pop(node_id), allow_graceful=False)

    def deploy(self, args: dict[str, Any], replica: dict[str, Any], *, waits: bool = True) -> None:
        """What a Serve config file says; `replica` stands under `deployments`."""
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        on_head = {"num_cpus": 0, "resources": {"gateway": 0.1}}
        deployments = [{"name": "Replica", **replica}, {"name": "Gateway", "ray_actor_options": on_head}]
        application = {
            "name": APP,
            "route_prefix": "/",
            "import_path": "llorch.ray_serve:build_app",
            "args": args,
            "deployments": deployments,
        }
        _get_global_client().deploy_apps(ServeDeploySchema(applications=[application]))
        if waits:  # the controller has taken it up: it says DEPLOYING from now on
            self.wait_until_running()

    def wait_until_running(self, n_replicas: int | None = None) -> list[str]:
        """The unique ids of the replicas, once the application runs (with so many of them)."""
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            status = self.status()
            if status["status"] == "RUNNING" and n_replicas in (None, len(self.replicas())):
                return self.replicas()
            if status["status"] == "DEPLOY_FAILED":
                break
            time.sleep(0.05)
        raise TimeoutError(json.dumps([self.status(), self.replicas()]))

    def status(self) -> dict[str, Any]:
        from ray import serve

        application = serve.status().applications.get(APP)
        if application is None:
            return {"status": "ABSENT"}
        states = {
            name: {str(state): n for state, n in deployment.replica_states.items()}
            for name, deployment in application.deployments.items()
        }
        return {"status": str(application.status.value), "message": application.message, "states": states}

    def _running(self) -> list[Any]:
        import ray
        from ray.serve.context import _get_global_client

        controller = _get_global_client()._controller
        found = ray.get(controller._all_running_replicas.remote())
        return [replica for key, replicas in found.items() if key.name == "Replica" for replica in replicas]

    def replicas(self) -> list[str]:
        return sorted(replica.replica_id.unique_id for replica in self._running())

    def node_of(self, unique_id: str) -> str:
        return next(str(r.node_id) for r in self._running() if r.replica_id.unique_id == unique_id)

    def pids(self, deployment: str = "Replica") -> dict[str, int]:
        """The process of each replica of the engine, or of another deployment, by its unique id."""
        from ray.serve.context import _get_global_client

        deployments = _get_global_client().get_serve_details()["applications"][APP]["deployments"]
        return {replica["replica_id"]: replica["pid"] for replica in deployments[deployment]["replicas"]}

    def stop(self) -> None:
        import ray
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        self._cluster.shutdown()


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints belongs to the log
    worker = ClusterWorker(sys.argv[1])
    print(json.dumps({"result": worker.url()}), file=out, flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"result": getattr(worker, name)(*arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)
        if name == "stop":
            return


if __name__ == "__main__":
    main()
