"""Other people's clients against a live server: each program of `tools.conformance` holds all its checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tools.conformance.environment import ENVIRONMENT
from tools.conformance.run import CLIENTS, N_PARALLEL, OWN_SERVERS, run_client
from tools.conformance.served import KEY, llorch_command, serving
from tools.setup.own_environment import InstallError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def python() -> Path:
    """Of the clients' environment, which is made if it is not there."""
    try:
        return ENVIRONMENT.ensure()
    except InstallError as error:
        if not error.is_offline:
            raise
        pytest.skip(f"the clients are not installed, and no package index is reachable: {error}")


@pytest.fixture(scope="module")
def url(smollm2: Path) -> Iterator[str]:
    """One server for all clients but those that want their own."""
    with serving(llorch_command(str(smollm2), N_PARALLEL)) as (url, _):
        yield url


MODULES = [(client, module) for client, modules in CLIENTS.items() for module in modules]


@pytest.mark.parametrize(("client", "module"), MODULES, ids=[module for _, module in MODULES])
def test_a_client_finds_no_difference(
    client: str, module: str, python: Path, smollm2: Path, request: pytest.FixtureRequest
) -> None:
    with ExitStack() as own:
        if client in OWN_SERVERS:
            model, flags = OWN_SERVERS[client]
            url, _ = own.enter_context(serving(llorch_command(model, N_PARALLEL, *flags)))
        else:
            model, url = str(smollm2), request.getfixturevalue("url")
        assert run_client(python, module, url, KEY, "served", model) == 0


def test_every_program_belongs_to_a_client() -> None:
    folder = Path(__file__).parents[2] / "tools" / "conformance" / "clients"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == {module for _, module in MODULES}
