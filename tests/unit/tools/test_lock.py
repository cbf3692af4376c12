"""The locked versions: what the file says for each Python, and that it holds everything the tests need."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY
from tools.setup.install import lowest_versions
from tools.setup.lock import (
    CONSTRAINTS,
    RUNNING_PYTHON,
    canonical,
    constraint_lines,
    locked_versions,
    supported_pythons,
)

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]


def test_supported_pythons_are_those_that_pyproject_requires() -> None:
    pythons = supported_pythons()
    (lowest, above) = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()  # type: ignore[union-attr]
    assert pythons == [f"3.{minor}" for minor in range(int(lowest), int(above))]


def test_a_version_that_differs_between_pythons_gets_a_marker() -> None:
    versions = {
        "3.11": {"a": "1.0", "b": "1"},
        "3.12": {"a": "2.0+x", "b": "1"},
        "3.13": {"a": "2.0+x", "b": "1", "c": "3.post1"},
    }
    lines = constraint_lines(versions)
    assert lines == [
        'a==1.0 ; python_version == "3.11"',
        'a==2.0+x ; python_version == "3.12" or python_version == "3.13"',
        "b==1",
        "c==3.post1",
    ]
    text = "# a comment\n" + "\n".join(lines) + "\n"
    assert locked_versions(text, "3.11") == {"a": "1.0", "b": "1", "c": "3.post1"}
    assert locked_versions(text, "3.13") == {"a": "2.0+x", "b": "1", "c": "3.post1"}


@pytest.mark.parametrize("python", supported_pythons())
def test_every_declared_dependency_is_locked_within_its_range(python: str) -> None:
    locked = locked_versions(CONSTRAINTS.read_text(), python)
    declared = map(Requirement, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])
    for requirement in declared:
        if canonical(requirement.name) != "llorch":
            assert requirement.specifier.contains(locked[canonical(requirement.name)]), requirement


@pytest.mark.skipif(
    "1" in (os.environ.get("LLORCH_NEWEST"), os.environ.get("LLORCH_LOWEST")),
    reason="other versions may need other packages",
)
def test_everything_that_the_tests_install_is_locked() -> None:
    locked = locked_versions(CONSTRAINTS.read_text(), RUNNING_PYTHON)
    todo, seen = ["llorch[test]"], set()
    while todo:
        wanted = Requirement(todo.pop())
        for line in importlib.metadata.requires(wanted.name) or ():
            needed = Requirement(line)
            extras = wanted.extras or {""}
            is_active = not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in extras)
            if is_active and str(needed) not in seen:
                seen.add(str(needed))
                todo.append(line)
    names = {canonical(Requirement(line).name) for line in seen} - {"llorch"}
    assert len(names) > 30
    assert names <= locked.keys()


def test_the_lowest_versions_are_the_lower_bounds_of_what_users_install() -> None:
    lowest = lowest_versions((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["ray"]:
        requirement = Requirement(text)
        (bound,) = requirement.specifier
        assert (bound.operator, f"{requirement.name}=={bound.version}" in lowest) == (">=", True), text
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", line) for line in lowest)
    assert len({line.partition("==")[0] for line in lowest}) == len(lowest), "a package has two lower bounds"
    assert not [line for line in lowest if line.startswith("pytest")]
