"""Dockerfile and compose file: what they name exists, and what they promise they set."""

from __future__ import annotations

import re

import pytest

from llorch.cli.main import COMMANDS
from llorch.fields.table import SETTINGS
from tests.conftest import REPOSITORY
from tests.support.deployment import (
    DEPLOY,
    LAST_BYTES_S,
    compose,
    copied_into_the_build,
    dockerfile,
    image_environment,
    seconds,
    unknown_variables,
)
from tools.setup.lock import supported_pythons

INSTRUCTIONS = dockerfile()
SERVICE = compose()["services"]["llorch"]


def arguments(keyword: str) -> list[str]:
    return [i.argument for i in INSTRUCTIONS if i.keyword == keyword]


def test_the_base_is_slim_and_of_a_supported_python() -> None:
    (version,) = (argument.removeprefix("PYTHON=") for argument in arguments("ARG"))
    assert version in supported_pythons()
    assert {argument.split()[0] for argument in arguments("FROM")} == {"python:${PYTHON}-slim"}


def test_what_is_copied_exists_and_is_let_through() -> None:
    for instruction in INSTRUCTIONS:
        if instruction.keyword == "COPY" and not instruction.argument.startswith("--from"):
            for source in instruction.words[:-1]:
                assert (REPOSITORY / source).exists(), source
                assert source in copied_into_the_build(), source
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "*", "everything else stays out"


def test_nothing_is_compiled_or_fetched_but_wheels() -> None:
    steps = "\n".join(arguments("RUN"))
    assert not re.search(r"apt|gcc|curl|wget|build-essential", steps)
    assert "--only-binary=:all:" in steps
    assert "--constraint tools/setup/constraints.txt" in steps


def test_the_image_runs_as_a_user_without_a_name_and_its_words_are_lists() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", arguments("USER")[0])
    entry, command = (next(i for i in INSTRUCTIONS if i.keyword == k).words for k in ("ENTRYPOINT", "CMD"))
    assert entry == ["llorch"]
    assert command[0] in COMMANDS
    (health,) = arguments("HEALTHCHECK")
    assert re.search(r'CMD \["python", "/opt/llorch/healthcheck.py"\]$', health)
    assert any(i.words[-1] == "/opt/llorch/" and "healthcheck.py" in i.argument for i in INSTRUCTIONS)


def test_variables_of_the_image_and_of_compose_mean_something() -> None:
    assert unknown_variables(list(image_environment())) == []
    assert unknown_variables(list(SERVICE["environment"])) == []
    assert image_environment()["LLORCH_HOST"] == "0.0.0.0"


def test_the_cache_is_below_a_volume_where_every_user_may_make_a_folder() -> None:
    (volume,) = arguments("VOLUME")
    assert image_environment()["LLORCH_CACHE_DIR"].startswith(volume + "/")
    assert any(f"chmod 1777 {volume}" in step for step in arguments("RUN"))
    assert f"cache:{volume}" in SERVICE["volumes"]
    assert "cache" in compose()["volumes"]


def test_compose_builds_this_image_and_closes_it() -> None:
    build = SERVICE["build"]
    assert (DEPLOY / build["context"]).resolve() == REPOSITORY
    assert (REPOSITORY / build["dockerfile"]).exists()
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["user"] == f"${{RUN_AS:-{arguments('USER')[0]}}}"
    assert arguments("EXPOSE") == [str(SETTINGS["port"].default)]
    assert SERVICE["ports"] == [f"127.0.0.1:{arguments('EXPOSE')[0]}:{arguments('EXPOSE')[0]}"]


def test_compose_waits_for_requests_to_end() -> None:
    assert seconds(SERVICE["stop_grace_period"]) > SETTINGS["shutdown_grace_s"].default + LAST_BYTES_S


@pytest.mark.parametrize("name", SERVICE["secrets"])
def test_secrets_are_defined_and_used(name: str) -> None:
    assert name in compose()["secrets"]
    assert SERVICE["environment"]["LLORCH_API_KEY_FILE"] == f"/run/secrets/{name}"
