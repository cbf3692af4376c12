"""The Serve config file of docs/ray.md: its names are those of the code."""

from __future__ import annotations

import importlib
import re

import pytest
import yaml

from llorch.fields.table import SETTINGS
from llorch.ray_serve.options import OPTIONS
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "ray.md").read_text("utf-8")


def test_the_config_file_names_arguments_deployments_and_a_policy_that_there_are() -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    (application,) = yaml.safe_load(found[1])["applications"]
    assert set(application["args"]) <= {*SETTINGS, *OPTIONS}
    replica, gateway = application["deployments"]
    source = (REPOSITORY / "llorch" / "ray_serve" / "application.py").read_text("utf-8")
    assert {f'REPLICA = "{replica["name"]}"', f'GATEWAY = "{gateway["name"]}"'} <= set(source.splitlines())
    module, _, function = replica["autoscaling_config"]["policy"]["policy_function"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_described(name: str) -> None:
    assert f"| `{name}` |" in PAGE
