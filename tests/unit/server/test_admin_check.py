"""Who may use the paths of whoever runs the server: only those with an admin key, wherever they come from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from llorch.engine.service import EngineService
from llorch.errors import SettingsError
from llorch.server.app import create_app
from llorch.server.key_ring import KeyRing
from llorch.server.routes.trace import PATHS
from llorch.settings import Settings, load_settings
from tests.support.asgi import answer_of

ADMIN, USER = SecretStr("root: tahini"), SecretStr("sesame")


def ask(path: str, key: str | None, host: bytes = b"localhost", **settings: Any) -> tuple[int, str]:
    """Status and first message of an answer to a POST by a client of this machine; the service is not ready."""
    app = create_app(EngineService(Settings(**settings)))
    headers = [(b"host", host), (b"content-type", b"application/json"), (b"content-length", b"2")]
    headers += [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
    status, body = answer_of(app, "POST", path, headers, body=b"{}", client=("127.0.0.1", 1))
    return status, body["errors"][0]["message"] if "errors" in body else body["code"]


@pytest.mark.parametrize("path", sorted(PATHS))
def test_nobody_may_where_there_is_no_admin_key(path: str) -> None:
    for key in (None, "tahini"):
        status, message = ask(path, key)
        assert (status, "this server has none" in message) == (403, True)
    assert ask(path, "sesame", api_key=USER)[0] == 403
    assert ask(path, "tahini", api_key=USER)[0] == 401, "strangers are not told what there is"


@pytest.mark.parametrize("settings", [{}, {"api_key": USER}])
def test_only_the_admin_key_will_do(settings: dict[str, Any]) -> None:
    for key in (None, "", "wrong", "root", "root: tahini"):
        assert ask("/trace/start", key, admin_key=ADMIN, **settings)[0] == 401
    assert ask("/trace/start", "tahini", admin_key=ADMIN, **settings) == (503, "not_ready")
    assert ask("/generate", "tahini", admin_key=ADMIN, api_key=USER)[0] == 401
    assert ask("/trace/start", "sesame", admin_key=ADMIN, api_key=USER)[0] == 403


def test_one_key_may_be_both() -> None:
    for path in ("/trace/start", "/generate"):
        assert ask(path, "sesame", admin_key=USER, api_key=USER)[0] not in (401, 403)


def test_web_pages_are_kept_out_though_they_have_the_key() -> None:
    assert ask("/trace/start", "tahini", b"evil.example", admin_key=ADMIN)[0] == 403


def test_admin_keys_come_from_the_same_places_as_api_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "admins"
    file.write_text("# who runs it\nroot: tahini\n")
    settings = load_settings(overrides={"admin_key_file": str(file)})
    assert settings.admin_key == ADMIN
    assert settings.api_key is None
    monkeypatch.setenv("LLORCH_ADMIN_KEY", "root: tahini")
    assert load_settings().admin_key == ADMIN
    with pytest.raises(SettingsError, match="LLORCH_ADMIN_KEY and flag --admin-key-file exclude each other"):
        load_settings(overrides={"admin_key_file": str(file)})
    monkeypatch.setenv("LLORCH_ADMIN_KEY", " poppy")
    with pytest.raises(SettingsError, match="LLORCH_ADMIN_KEY: the key has blanks") as caught:
        load_settings()
    assert "poppy" not in str(caught.value)


def test_admin_keys_can_be_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "admins"
    file.write_text("root: tahini\n")
    ring = KeyRing(load_settings(overrides={"admin_key_file": str(file)}), "admin_key")
    file.write_text("root: poppy\n")
    with caplog.at_level(logging.INFO, logger="llorch"):
        ring.reload()
    assert caplog.messages == [f"1 admin keys read from {file}; replaced: root"]
    assert list(ring.owners) == [b"poppy"]
    file.unlink()
    with pytest.raises(SettingsError, match=f"^admin_key_file {file} cannot be read"):
        ring.reload()
