"""Settings files, variables and key files as people and machines really write them: a value, or one line about it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llorch.errors import SettingsError
from llorch.setting_sources import MAX_KEY_BYTES
from llorch.settings import Settings, load_settings
from tests.support.commands import refused
from tests.support.live_server import LiveServer


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LLORCH_") and name != "LLORCH_TEST_MODELS":
            monkeypatch.delenv(name)


ODD_FILES = {
    "a number of 5,000 digits": (b"threads = " + b"9" * 5000, "is not TOML"),
    "a float of 5,000 digits": (b"temperature = 1." + b"0" * 5000 + b"e9999", "temperature"),
    "deep nesting": (b"stop = " + b"[" * 100_000, "nested too deeply|is not TOML"),
    "deep dotted keys": (b".".join([b"a"] * 2_000) + b" = 1", "is a section"),
    "a byte order mark": (b"\xef\xbb\xbfthreads = 1", "byte order mark"),
    "UTF-16": ("threads = 1".encode("utf-16"), "is not TOML"),
    "NUL characters": (b"\0" * 100, "is not TOML"),
    "true for a number": (b"threads = true", "threads in .*: expected an integer.*got True"),
    "false for a real number": (b"temperature = false", "temperature in .*: expected a number.*got False"),
    "a number in quotes": (b'threads = "4"', "threads in .*: expected an integer.*got '4'"),
    "a whole number as a real one": (b"threads = 4.0", "threads in .*: expected an integer.*got 4.0"),
    "a date": (b"port = 2026-01-01", "port in .*: expected an integer"),
    "a list": (b"host = ['a']", "host in .*: expected"),
    "infinity": (b"keep_alive_s = inf", "keep_alive_s in .*got inf"),
    "an empty name": (b'"" = 1', "is not a setting"),
    "a name of 100,000 characters": (b"a" * 100_000 + b" = 1", "is not a setting"),
    "a value of 100,000 characters": (b"kv_type = '" + b"a" * 100_000 + b"'", "kv_type"),
    "the same name twice": (b"threads = 1\nthreads = 2", "is not TOML"),
    "line feeds of old Macs": (b"threads = 1\rport = 2", "is not TOML"),
}


@pytest.mark.parametrize(("content", "message"), ODD_FILES.values(), ids=ODD_FILES)
def test_an_odd_file_is_one_short_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


def test_files_that_never_end_are_not_read_for_ever() -> None:
    with pytest.raises(SettingsError, match="larger than"):
        load_settings("/dev/zero")
    with pytest.raises(SettingsError, match="larger than"):
        load_settings(overrides={"api_key_file": "/dev/zero"})


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(ODD_FILES["a number of 5,000 digits"][0])
    assert "is not TOML" in refused("tokenize", "a", "--config", str(path))


@pytest.mark.parametrize(
    ("value", "said"), [("true", "got 'true'"), ("", "got ''"), ("1e3", "got '1e3'"), ("9" * 5000, "threads")]
)
def test_an_odd_variable_is_one_short_line(value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLORCH_THREADS", value)
    with pytest.raises(SettingsError, match="LLORCH_THREADS: expected an integer") as caught:
        load_settings()
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


def key_of(settings: Settings) -> str | None:
    return None if settings.api_key is None else settings.api_key.get_secret_value()


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_line_feed_at_the_end_of_a_secret_does_not_belong_to_it(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_bytes(f"sesame öffne{end}".encode())
    assert key_of(load_settings(overrides={"api_key_file": str(tmp_path / "key")})) == "sesame öffne"
    monkeypatch.setenv("LLORCH_API_KEY", f"sesame{end}")
    assert key_of(load_settings()) == "sesame"


@pytest.mark.parametrize("key", ["", "\n", "\r\n"])
def test_an_empty_key_is_refused_in_plain_words(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(key)
    with pytest.raises(SettingsError, match=r"api-key-file .*/key.*: the key is empty"):
        load_settings(overrides={"api_key_file": str(tmp_path / "key")})
    with pytest.raises(SettingsError, match="flag --api-key: the key is empty"):
        load_settings(overrides={"api_key": key})
    monkeypatch.setenv("LLORCH_API_KEY", key)
    with pytest.raises(SettingsError, match="LLORCH_API_KEY: the key is empty"):
        load_settings()


@pytest.mark.parametrize("key", [" sesame", "sesame ", "ses\name", "sesame\n\n", "ses\tame", "sesame\x7f"])
def test_a_key_that_no_client_can_send_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(SettingsError, match="blanks at its ends or control characters") as caught:
        load_settings(overrides={"api_key": key})
    assert "ame" not in str(caught.value).replace("name", "")


def test_a_key_file_that_cannot_be_one_is_one_line(tmp_path: Path) -> None:
    def said(path: Path) -> str:
        with pytest.raises(SettingsError) as caught:
            load_settings(overrides={"api_key_file": str(path)})
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "No such file" in said(tmp_path / "nothing")
    assert "Is a directory" in said(tmp_path)
    (tmp_path / "large").write_bytes(b"x" * (MAX_KEY_BYTES + 1))
    assert "larger than" in said(tmp_path / "large")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in said(tmp_path / "binary")


def test_a_file_has_a_key_on_each_line_and_may_say_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"# of the team\r\n\r\nalice: one,1\r\n  \ntwo\n# the end\n")
    assert key_of(load_settings(overrides={"api_key_file": str(path)})) == "alice: one,1\ntwo"
    for content, message in (
        ("# nothing\n", "the key is empty"),
        (" one\n", "blanks at its ends"),
        ("one\ntw\to", "control characters"),
        ("one\nalice: one", "the same key stands there twice"),
        ("\n".join(map(str, range(1001))), "1001 keys, at most 1000"),
    ):
        path.write_text(content)
        with pytest.raises(SettingsError, match=message):
            load_settings(overrides={"api_key_file": str(path)})


def test_commas_separate_keys_of_a_flag_or_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_of(load_settings(overrides={"api_key": "one,bob: two"})) == "one\nbob: two"
    monkeypatch.setenv("LLORCH_API_KEY", "one,two\n")
    assert key_of(load_settings()) == "one\ntwo"
    for keys in ("one,", ",", "one,,two"):
        with pytest.raises(SettingsError, match="the key is empty"):
            load_settings(overrides={"api_key": keys})


def test_keys_from_two_sources_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("one")
    monkeypatch.setenv("LLORCH_API_KEY", "two")
    with pytest.raises(SettingsError, match="LLORCH_API_KEY and flag --api-key-file exclude each other"):
        load_settings(overrides={"api_key_file": str(tmp_path / "key")})


def test_settings_that_name_a_key_file_nobody_has_read_are_refused(tmp_path: Path) -> None:
    """An application built on them would be open to everybody."""
    with pytest.raises(ValueError, match="load_settings"):
        Settings(api_key_file=str(tmp_path / "key"))


@pytest.mark.slow
def test_a_server_warns_of_a_key_that_others_can_see_and_of_no_other(
    tiny_model: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("sesame\n")
    variants: list[tuple[tuple[str, ...], dict[str, str], bool]] = [
        (("--api-key", "sesame"), {}, True),
        (("--api-key-file", str(key)), {}, False),
        ((), {"LLORCH_API_KEY": "sesame"}, False),
    ]
    for flags, variables, is_warned in variants:
        server = LiveServer(tiny_model, tmp_path / "log", *flags, **variables)
        try:
            wrong = server.post("/generate", json={}, headers={"authorization": "Bearer other"})
            right = server.post("/generate", json={}, headers={"authorization": "Bearer sesame"})
            assert (wrong.status_code, right.status_code) == (401, 400)
            assert ("list of processes" in server.log) is is_warned
            assert "sesame" not in server.log
        finally:
            assert server.stop() == 0
