"""The commands of the README work on the files that are there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from llorch.fields.table import SETTINGS
from tests.conftest import REPOSITORY
from tests.support.deployment import DEPLOY, rule_groups, unknown_variables

README = (DEPLOY / "README.md").read_text()


def test_every_file_has_its_place_in_it() -> None:
    linked = {link.split("/")[0] for link in re.findall(r"\]\(([^)]+)\)", README)}
    assert {link for link in re.findall(r"\]\(([^)]+)\)", README) if not (DEPLOY / link).exists()} == set()
    there = {path.name for path in DEPLOY.iterdir()} - {"README.md", "Dockerfile.dockerignore", "__pycache__"}
    assert there == linked


def test_variables_in_it_exist() -> None:
    assert unknown_variables(re.findall(r"LLORCH_[A-Z][A-Z_]+", README)) == []
    of_compose = set(re.findall(r"\$\{(\w+):-", (DEPLOY / "compose.yaml").read_text()))
    assert {name for name in of_compose if f"`{name}`" not in README and f"{name}=" not in README} == set()
    assert unknown_variables(sorted(of_compose)) == [], "llorch itself refuses what looks like a setting"


def test_the_rules_become_an_object_of_the_operator() -> None:
    (command,) = re.findall(r"\n(\(printf .*?\)) \| kubectl", README, re.DOTALL)
    done = subprocess.run(["sh", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    made = yaml.safe_load(done.stdout)
    assert made["kind"] == "PrometheusRule"
    assert made["spec"]["groups"] == rule_groups()


def test_the_second_unit_has_folders_and_a_port_of_its_own() -> None:
    (script,) = re.findall(r"\n(sed -E '.*?llorch\.service) >", README, re.DOTALL)
    done = subprocess.run(["sh", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    unit = (DEPLOY / "systemd" / "llorch.service").read_text().splitlines()
    assert set(done.stdout.splitlines()) - set(unit) == {
        "Environment=LLORCH_CACHE_DIR=%C/llorch-%i LLORCH_DATA_DIR=%S/llorch-%i PYTHONDONTWRITEBYTECODE=1",
        "Environment=LLORCH_PORT=%i",
        "CacheDirectory=llorch-%i",
        "StateDirectory=llorch-%i",
    }


def test_the_proxy_limits_bodies_as_the_server_does_and_asks_the_other_one_after_503() -> None:
    page = (DEPLOY / "nginx" / "llorch.conf").read_text()
    (size,) = re.findall(r"client_max_body_size (\d+)m;", page)
    assert int(size) << 20 == SETTINGS["max_body_bytes"].default
    assert "proxy_next_upstream error http_503 non_idempotent;" in page
    assert (
        re.findall(r"server 127\.0\.0\.1:(\d+) max_fails=0;", page) == re.findall(r"llorch@(\d+)", README)[:2]
    )
    assert page.count("{") == page.count("}")


@pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx")
def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    page = tmp_path / "nginx.conf"
    page.write_text(f"pid {tmp_path}/pid; events {{}} http {{ include {DEPLOY}/nginx/llorch.conf; }}")
    words = ["nginx", "-t", "-p", str(tmp_path), "-c", str(page), "-e", str(tmp_path / "log")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "syntax is ok" in done.stderr  # its default folders may be missing


def test_the_pieces_of_yaml_in_it_are_yaml() -> None:
    (adapter,) = re.findall(r"```\n(rules:.*?)```", README, re.DOTALL)
    (rule,) = yaml.safe_load(adapter)["rules"]
    assert rule["name"] == {"as": "llorch_pod_load"}
