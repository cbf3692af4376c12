"""The files of `tools/deploy`, parsed."""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llorch.fields.table import SETTINGS
from llorch.server.daemon import FLUSH_S
from llorch.setting_sources import ENV_PREFIX, OTHER_VARIABLES
from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "tools" / "deploy"
LAST_BYTES_S = FLUSH_S
"""What the server gives connections after the grace period."""


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile; `stage` counts from 0."""

    stage: int
    keyword: str
    argument: str

    @property
    def words(self) -> list[str]:
        """The words of an exec form, or those between blanks."""
        if self.argument.startswith("["):
            found: list[str] = json.loads(self.argument)
            return found
        return self.argument.split()


def dockerfile() -> list[Instruction]:
    """The instructions in order."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r" *\\\n *", " ", "\n".join(lines))
    found: list[Instruction] = []
    stage = -1
    for line in joined.splitlines():
        keyword, argument = line.split(None, 1)
        stage += keyword == "FROM"
        found.append(Instruction(stage, keyword, argument))
    return found


def image_environment() -> dict[str, str]:
    """The variables that the image sets."""
    (environment,) = (i for i in dockerfile() if i.keyword == "ENV")
    return dict(word.split("=", 1) for word in environment.words)


def manifests() -> dict[str, dict[str, Any]]:
    """The objects of Kubernetes by the name of their file, the kustomization among them."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in (DEPLOY / "kubernetes").glob("*.yaml")}


def compose() -> dict[str, Any]:
    """The compose file."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def rule_groups() -> list[dict[str, Any]]:
    """The groups of Prometheus rules."""
    found: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    return found


def dashboard() -> dict[str, Any]:
    """The dashboard of Grafana."""
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    return found


def unit_file() -> configparser.ConfigParser:
    """The unit of systemd; of keys that come twice, the last value."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(DEPLOY / "systemd" / "llorch.service")
    return parser


def expressions() -> Iterator[str]:
    """Every PromQL expression of the rules and the dashboard."""
    for group in rule_groups():
        yield from (rule["expr"] for rule in group["rules"])
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def seconds(text: str) -> float:
    """``"15min"``, ``"45s"`` in seconds."""
    number, unit = re.fullmatch(r"(\d+)\s*(s|m|min|h)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "min": 60, "h": 3600}[unit]


def unknown_variables(names: Iterator[str] | list[str]) -> list[str]:
    """Those of `names` that look like ours and mean nothing."""
    return [
        name
        for name in names
        if name.startswith(ENV_PREFIX)
        and name not in OTHER_VARIABLES
        and name.removeprefix(ENV_PREFIX).lower() not in SETTINGS
    ]


def copied_into_the_build(context: Path = REPOSITORY) -> set[str]:
    """The top of what `Dockerfile.dockerignore` lets through, as patterns."""
    lines = (context / "tools" / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    return {line.removeprefix("!") for line in lines if line.startswith("!")}
