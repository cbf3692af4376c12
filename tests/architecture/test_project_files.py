"""Files that other programs read (workflow, hooks, editors, packages) agree with `pyproject.toml` and the scripts."""

from __future__ import annotations

import configparser
import os
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from llorch.kernels.paths import KERNEL_PATHS, PATHS
from llorch.setting_sources import OTHER_VARIABLES
from tests.conftest import REPOSITORY
from tools.setup.lock import supported_pythons

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def yaml_file(path: str) -> Any:
    return yaml.safe_load((REPOSITORY / path).read_text())


def jobs() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml_file(".github/workflows/tests.yml")["jobs"]
    return found


def commands() -> Iterator[tuple[str, str]]:
    """Job and shell command of every step that has one."""
    for name, job in jobs().items():
        yield from ((name, step["run"]) for step in job["steps"] if "run" in step)


def test_the_workflow_runs_only_scripts_of_the_repository() -> None:
    found = list(commands())
    assert {name for name, _ in found} == set(jobs())
    for _, command in found:
        script = command.split()[0]
        assert script in ("tools/test", "tools/llorch", ".ci/run")
        assert os.access(REPOSITORY / script, os.X_OK), script


def test_the_workflow_covers_every_python_and_every_masked_path() -> None:
    matrix = {name: job["strategy"]["matrix"] for name, job in jobs().items() if "strategy" in job}
    assert matrix["python"] == {"python": supported_pythons()}
    of_arm = [name for name, path in KERNEL_PATHS.items() if "neon" in path.needs or not path.needs]
    assert matrix["arm"] == {"cpu": of_arm}
    assert matrix["paths"] == {"cpu": [name for name in PATHS[1:] if name not in of_arm[:-1]]}
    assert jobs()["without-compiler"]["container"] == f"python:{supported_pythons()[0]}-slim"


def test_the_workflow_sets_only_variables_that_exist() -> None:
    variables = {variable: value for job in jobs().values() for variable, value in job.get("env", {}).items()}
    assert variables.keys() == {"LLORCH_PYTHON", "LLORCH_CPU", "LLORCH_NEWEST", "LLORCH_LOWEST"}
    assert variables.keys() <= OTHER_VARIABLES
    assert variables["LLORCH_NEWEST"] == variables["LLORCH_LOWEST"] == "1"


def test_no_job_can_hang_or_write() -> None:
    assert yaml_file(".github/workflows/tests.yml")["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 120 for job in jobs().values())


def test_the_set_up_script_takes_the_supported_pythons() -> None:
    script = (REPOSITORY / "tools" / "setup" / "environment.sh").read_text()
    oldest, newest = supported_pythons()[0], supported_pythons()[-1]
    assert set(re.findall(r"CPython (3\.\d+) to (3\.\d+)", script)) == {(oldest, newest)}
    bounds = {tuple(version.split(".")) for version in (oldest, newest)}
    assert set(re.findall(r"\((3), (\d+)\)", script)) == bounds
    tried = set(re.findall(r"(?:python3\.\d+ )+", script))
    assert tried == {"".join(f"python{version} " for version in reversed(supported_pythons()))}


def test_hooks_run_the_checks_of_the_test_script_in_the_environment_of_the_clone() -> None:
    (repository,) = yaml_file(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local", "versions are locked in constraints.txt only"
    entries = [hook["entry"] for hook in repository["hooks"] if hook["language"] == "system"]
    script = (REPOSITORY / "tools" / "test").read_text()
    for entry in entries:
        module = re.fullmatch(r"\.venv/bin/python -m ((?:ruff|mypy) \S+).*", entry)
        assert module, entry
        assert f'"$python" -m {module[1]}' in script
    assert len(entries) == len(re.findall(r'"\$python" -m (?:ruff|mypy)', script))


def test_editors_wrap_where_the_linter_does() -> None:
    parser = configparser.ConfigParser()
    parser.read_string("[top]\n" + (REPOSITORY / ".editorconfig").read_text())
    ruff = PYPROJECT["tool"]["ruff"]
    assert parser.getint("*.py", "max_line_length") == ruff["line-length"]
    assert parser.getint("*", "max_line_length") == ruff["lint"]["pycodestyle"]["max-line-length"]


@pytest.mark.parametrize("path", [".github/dependabot.yml", ".github/workflows/tests.yml"])
def test_configuration_is_yaml(path: str) -> None:
    assert isinstance(yaml_file(path), dict)


def test_the_source_distribution_holds_what_the_readme_points_to() -> None:
    included = set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    targets = re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / "README.md").read_text())
    linked = {target.split("/")[0] for target in targets if "://" not in target}
    # Proof bundles are large and are read on the web.
    assert linked - {"proof_bundle"} <= included
    assert {
        "docs",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        ".ci",
        ".github",
        ".pre-commit-config.yaml",
    } <= included
