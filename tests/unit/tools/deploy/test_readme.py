"""The commands of the README work on the files that are there."""

from __future__ import annotations

import re
import subprocess

import yaml

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


def test_the_pieces_of_yaml_in_it_are_yaml() -> None:
    (adapter,) = re.findall(r"```\n(rules:.*?)```", README, re.DOTALL)
    (rule,) = yaml.safe_load(adapter)["rules"]
    assert rule["name"] == {"as": "llorch_pod_load"}
