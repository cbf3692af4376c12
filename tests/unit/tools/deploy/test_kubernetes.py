"""The manifests agree with each other, with the image and with the settings."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from typing import Any

import pytest

from llorch.cli.main import build_parser
from llorch.fields.table import SETTINGS
from llorch.server.access import OPEN_PATHS
from llorch.server.routes import health
from tests.support.deployment import (
    DEPLOY,
    LAST_BYTES_S,
    dockerfile,
    image_environment,
    manifests,
    rule_groups,
    unknown_variables,
)

FILES = manifests()
LABELS = {"app.kubernetes.io/name": "llorch"}
OPTIONAL = {"pod-monitor", "autoscaler"}
"""What needs an operator or an adapter."""


def pod() -> dict[str, Any]:
    found: dict[str, Any] = FILES["deployment"]["spec"]["template"]["spec"]
    return found


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return found  # type: ignore[no-any-return]


def settings() -> dict[str, Any]:
    return tomllib.loads(FILES["settings"]["data"]["config.toml"])


def test_the_kustomization_has_every_file_that_needs_no_operator() -> None:
    names = {name.removesuffix(".yaml") for name in FILES["kustomization"]["resources"]}
    assert names == FILES.keys() - OPTIONAL - {"kustomization"}


def test_every_object_is_found_by_its_label() -> None:
    for name, manifest in FILES.items():
        if name != "kustomization":
            assert manifest["metadata"]["labels"] == LABELS, name
    assert FILES["deployment"]["spec"]["template"]["metadata"]["labels"] == LABELS
    assert FILES["service"]["spec"]["selector"] == LABELS
    for name, key in {
        "deployment": "selector",
        "disruption-budget": "selector",
        "network-policy": "podSelector",
        "pod-monitor": "selector",
    }.items():
        assert FILES[name]["spec"][key] == {"matchLabels": LABELS}, name


def test_the_settings_are_settings() -> None:
    assert settings().keys() <= SETTINGS.keys()
    assert [fault for name, value in settings().items() for fault in SETTINGS[name].faults(value)] == []
    assert unknown_variables([variable["name"] for variable in container()["env"]]) == []


def test_everything_speaks_to_the_port_of_the_settings() -> None:
    (port,) = container()["ports"]
    assert port["containerPort"] == settings()["port"] == SETTINGS["port"].default
    assert [i.argument for i in dockerfile() if i.keyword == "EXPOSE"] == [str(settings()["port"])]
    assert [entry["targetPort"] for entry in FILES["service"]["spec"]["ports"]] == [port["name"]]
    assert [entry["port"] for entry in FILES["pod-monitor"]["spec"]["podMetricsEndpoints"]] == [port["name"]]
    (rule,) = FILES["network-policy"]["spec"]["ingress"]
    assert [entry["port"] for entry in rule["ports"]] == [port["name"]]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container()[kind]["httpGet"]["port"] == port["name"]


def test_probes_ask_for_what_needs_no_key() -> None:
    paths = {
        kind: container()[kind]["httpGet"]["path"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert paths == {"startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/health"}
    assert set(paths.values()) <= {route.path for route in health.router.routes}  # type: ignore[attr-defined]
    assert set(paths.values()) <= set(OPEN_PATHS)


def test_a_pod_has_time_to_finish_what_it_began() -> None:
    pause_s = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    needed_s = pause_s + settings()["shutdown_grace_s"] + LAST_BYTES_S
    assert pod()["terminationGracePeriodSeconds"] > needed_s


def test_a_pod_has_time_to_compile_and_load() -> None:
    probe = container()["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 900


def test_threads_are_as_many_as_the_cpus_that_are_granted() -> None:
    resources = container()["resources"]
    assert resources["requests"] == resources["limits"]
    assert re.fullmatch("[1-9][0-9]*", resources["limits"]["cpu"])
    assert "threads" not in settings()


def test_the_pod_keeps_the_restricted_standard() -> None:
    assert pod()["enableServiceLinks"] is False
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = f"{pod()['securityContext']['runAsUser']}:{pod()['securityContext']['runAsGroup']}"
    assert [i.argument for i in dockerfile() if i.keyword == "USER"] == [user]


def test_every_file_lies_in_a_volume_that_is_mounted() -> None:
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounts.keys() == volumes.keys()
    assert settings()["model"].startswith(mounts["models"] + "/")
    assert settings()["api_key_file"].startswith(mounts["api-keys"] + "/")
    args = build_parser("serve").parse_args(container()["args"])
    folder, name = str(args.config).rsplit("/", 1)
    assert folder == mounts["settings"]
    assert name in FILES["settings"]["data"]
    assert volumes["settings"]["configMap"]["name"] == FILES["settings"]["metadata"]["name"]


def test_the_image_is_written_to_where_it_may_be() -> None:
    (cache,) = (v["value"] for v in container()["env"] if v["name"] == "LLORCH_CACHE_DIR")
    assert cache.startswith("/dev/shm/")  # the root is read-only, and an emptyDir belongs to nobody
    assert image_environment()["LLORCH_CACHE_DIR"] != cache


def test_the_autoscaler_asks_for_what_is_recorded() -> None:
    spec = FILES["autoscaler"]["spec"]
    assert spec["scaleTargetRef"]["name"] == FILES["deployment"]["metadata"]["name"]
    (metric,) = (entry["pods"]["metric"]["name"] for entry in spec["metrics"])
    recorded = {rule.get("record") for group in rule_groups() for rule in group["rules"]}
    readme = (DEPLOY / "README.md").read_text()
    assert "llorch:pod_load:ratio" in recorded
    assert "llorch:pod_load:ratio" in readme
    assert metric in readme


@pytest.fixture
def schemas() -> Any:
    """Kubernetes' own; CI installs them before the slow tests."""
    hint = "no kubernetes-validate: tools/setup/deployment_checks.sh installs it"
    return pytest.importorskip("kubernetes_validate", reason=hint)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FILES.keys() - {"kustomization", "pod-monitor"}))
def test_kubernetes_knows_every_field(schemas: Any, name: str) -> None:
    """The other two are of kustomize and of Prometheus' operator."""
    schemas.validate(FILES[name], schemas.latest_version(), strict=True)


@pytest.mark.slow
def test_a_field_that_kubernetes_does_not_know_is_found(schemas: Any) -> None:
    service = FILES["service"]
    wrong = {**service, "spec": {**service["spec"], "port": 80}}
    with pytest.raises(schemas.ValidationError, match="port"):
        schemas.validate(wrong, schemas.latest_version(), strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_them() -> None:
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nkind: ") == len(FILES["kustomization"]["resources"])
