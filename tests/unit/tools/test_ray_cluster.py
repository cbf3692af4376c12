"""Ray's environment: it has what llorch needs, and its file of exact versions names all of it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.conftest import REPOSITORY
from tools.ray_cluster.environment import ENVIRONMENT
from tools.setup.lock import canonical


def lines_of(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]


def test_it_is_made_of_ray_and_of_llorchs_own_dependencies() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {*project["dependencies"], *project["optional-dependencies"]["ray"]}
    assert set(lines_of(ENVIRONMENT.requirements)) == wanted


def test_the_exact_versions_name_every_requirement() -> None:
    locked = {canonical(line.partition("==")[0]) for line in lines_of(ENVIRONMENT.constraints)}
    names = {canonical(re.split(r"[\[>=]", line)[0]) for line in lines_of(ENVIRONMENT.requirements)}
    assert names <= locked
