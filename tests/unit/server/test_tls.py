"""Certificates that cannot be used end the start with one line that says why."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from llorch.errors import InputError, SettingsError
from llorch.server.tls import Certificate
from llorch.settings import Settings, load_settings
from tests.support.certificates import Pair, make_pair


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    return make_pair(folder, "first")


@pytest.fixture(scope="module")
def other(folder: Path) -> Pair:
    return make_pair(folder, "second")


def loaded(cert: Path, key: Path) -> Certificate:
    return Certificate(Settings(ssl_cert_file=str(cert), ssl_key_file=str(key)))


def test_a_file_that_is_missing_is_named(pair: Pair, folder: Path) -> None:
    with pytest.raises(InputError, match=r"ssl_cert_file .*nowhere cannot be read: No such file"):
        loaded(folder / "nowhere", pair.key)
    with pytest.raises(InputError, match=r"ssl_key_file .*nowhere cannot be read: No such file"):
        loaded(pair.cert, folder / "nowhere")
    with pytest.raises(InputError, match=r"ssl_key_file .* is no regular file"):
        loaded(pair.cert, folder)


def test_files_of_something_else_are_named(pair: Pair, folder: Path) -> None:
    with pytest.raises(InputError, match=r"ssl_cert_file .*first.key holds no certificate in PEM"):
        loaded(pair.key, pair.cert)
    with pytest.raises(InputError, match=r"ssl_key_file .*first.crt holds no private key in PEM"):
        loaded(pair.cert, pair.cert)
    damaged = folder / "damaged.crt"
    damaged.write_text(pair.cert.read_text().replace("\nMII", "\nAAA", 1))
    with pytest.raises(InputError, match=r"damaged.crt and .*first.key cannot be used: "):
        loaded(damaged, pair.key)


def test_a_key_of_another_certificate_is_refused(pair: Pair, other: Pair) -> None:
    with pytest.raises(InputError, match=r"second.key does not belong to the certificate in .*first.crt"):
        loaded(pair.cert, other.key)


def test_an_encrypted_key_is_refused_without_asking_for_a_password(folder: Path) -> None:
    locked = make_pair(folder, "locked", "-passout", "pass:sesame")
    with pytest.raises(InputError, match=r"locked.key is encrypted; `openssl pkey"):
        loaded(locked.cert, locked.key)


def test_only_one_of_both_is_refused() -> None:
    with pytest.raises(SettingsError, match="go together"):
        load_settings(overrides={"ssl_key_file": "/key"})


def test_a_key_that_everybody_can_read_is_worth_a_warning(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.key.chmod(0o644)
    loaded(pair.cert, pair.key)
    assert "chmod o-r" in caplog.text
    caplog.clear()
    pair.key.chmod(0o640)
    loaded(pair.cert, pair.key)
    assert caplog.text == ""


def test_a_renewal_that_fails_changes_nothing(
    pair: Pair, other: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = tmp_path / "crt", tmp_path / "key"
    shutil.copy(pair.cert, cert)
    shutil.copy(pair.key, key)
    certificate = loaded(cert, key)
    shutil.copy(other.cert, cert)  # the key has not followed yet
    with pytest.raises(InputError, match="does not belong"):
        certificate.reload()
    shutil.copy(other.key, key)
    with caplog.at_level(logging.INFO, logger="llorch"):
        certificate.reload()
    assert "read again" in caplog.text
