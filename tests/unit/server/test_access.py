"""Which requests pass the Host check, and when there is one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from llorch.engine.service import EngineService
from llorch.server.app import create_app
from llorch.settings import Settings
from tests.support.asgi import answer_of


def ask(
    header: bytes | None, /, *, version: str = "1.1", is_local: bool | None = None, **settings: Any
) -> tuple[int, str]:
    """Status and first message of an answer to ``GET /health``."""
    app = create_app(EngineService(Settings(**settings)), is_local=is_local)
    headers = [] if header is None else [(b"host", header)]
    status, body = answer_of(app, "GET", "/health", headers, version=version)
    return status, body["errors"][0]["message"] if "errors" in body else ""


@pytest.mark.parametrize("host", [b"localhost:80", b"[::1]:80", b"127.0.0.1", b"a.localhost"])
def test_this_machine_is_served(host: bytes) -> None:
    assert ask(host) == (200, "")


@pytest.mark.parametrize(
    "host", [b"", b"[::1]evil", b"[::1", b"a@localhost", b"\xff\xfe", b"<script>", b"x" * 5000]
)
def test_a_header_that_names_no_host_is_refused_and_not_repeated(host: bytes) -> None:
    assert ask(host) == (403, "the Host header names no host")


def test_a_refusal_says_which_name_to_add() -> None:
    status, message = ask(b"LLM.example:8443")
    assert status == 403
    assert 'add "llm.example" to allowed_hosts' in message
    assert ask(b"LLM.example:8443", allowed_hosts="llm.example") == (200, "")
    assert 'add "2001:db8::1" to allowed_hosts' in ask(b"[2001:DB8::1]:80")[1]
    assert ask(b"[2001:DB8::1]:80", allowed_hosts=["2001:db8::1"]) == (200, "")


def test_only_http_1_0_may_come_without_a_host() -> None:
    assert ask(None, version="1.0") == (200, "")
    assert ask(None, version="1.1")[0] == 403
    assert ask(b"evil.example", version="1.0")[0] == 403


def test_the_list_holds_what_it_names_and_nothing_near_it() -> None:
    for host in (b"x.llm.example", b"llm.example.evil", b"llm", b"10.0.0.1"):
        assert ask(host, allowed_hosts="llm.example")[0] == 403
    assert ask(b"anything.example", allowed_hosts="*")[0] == 200


def test_with_a_key_every_host_will_do() -> None:
    assert ask(b"evil.example", api_key=SecretStr("sesame"))[0] == 200
    assert ask(b"evil.example", api_key=SecretStr("sesame"), allowed_hosts="llm.example")[0] == 200


def test_a_server_for_others_checks_names_once_there_is_a_list() -> None:
    assert ask(b"evil.example", host="0.0.0.0")[0] == 200
    listed: dict[str, Any] = {"host": "0.0.0.0", "allowed_hosts": "llm.example"}
    assert ask(b"evil.example", **listed)[0] == 403
    for host in (
        b"llm.example",
        b"localhost",
        b"10.1.2.3:80",
        b"[2001:db8::1]",
    ):  # a probe has the pod's address
        assert ask(host, **listed)[0] == 200


def test_what_the_server_listens_on_counts_and_not_what_it_is_called() -> None:
    """A machine's own name is often 127.0.1.1 in /etc/hosts."""
    assert ask(b"evil.example", host="my-machine", is_local=True)[0] == 403
    assert ask(b"my-machine:80", host="my-machine", is_local=True)[0] == 200
    assert ask(b"evil.example", host="my-machine")[0] == 200
