"""Precedence of flags, environment, file and defaults, and mistakes that are named."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from llorch.cli import serve
from llorch.errors import SettingsError
from llorch.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("LLORCH_"):
            monkeypatch.delenv(name)


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_defaults_are_llama_cpp_s_sampling_defaults() -> None:
    settings = load_settings()
    assert (settings.model, settings.host, settings.port) == ("demo", "127.0.0.1", 8080)
    assert (settings.temperature, settings.top_k, settings.top_p, settings.min_p) == (0.8, 40, 0.95, 0.05)
    assert settings.repetition_penalty == 1.0


def test_flag_beats_environment_beats_file_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(tmp_path, "port = 1\nparallel = 2\ntop_k = 3\n")
    monkeypatch.setenv("LLORCH_PORT", "10")
    monkeypatch.setenv("LLORCH_PARALLEL", "20")
    settings = load_settings(path, {"port": 100, "threads": None})
    assert (settings.port, settings.parallel, settings.top_k, settings.threads) == (100, 20, 3, 0)


def test_config_path_from_the_environment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLORCH_CONFIG", str(config(tmp_path, 'alias = "mine"\n')))
    assert load_settings().alias == "mine"


def test_a_config_toml_that_merely_lies_in_the_current_directory_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(tmp_path, "[something.of]\nanother = 'program'\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings() == Settings()


def test_building_settings_directly_looks_at_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLORCH_PORT", "10")
    assert Settings().port == 8080


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paralel = 3\n", r"paralel in .*config.toml is not a setting \(did you mean parallel\?\)"),
        ("xyzzy = 3\n", r"xyzzy in .*config.toml is not a setting$"),
        ('kv_type = "q8"\n', r"""kv_type in .*config.toml: .*"f16" or "f32", got 'q8'"""),
        ("temperature = nan\n", r"temperature in .*config.toml: .*<= 2, got nan"),
        ("[server]\nport = 1\n", r"\[server\] in .*config.toml is a section"),
        ("port = \n", r"config.toml is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(config(tmp_path, text))


def test_a_missing_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"nowhere.toml cannot be read: No such file"):
        load_settings(tmp_path / "nowhere.toml")
    monkeypatch.setenv("LLORCH_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(SettingsError, match=r"nowhere.toml cannot be read"):
        load_settings()
    with pytest.raises(SettingsError, match=r"cannot be read: Is a directory"):
        load_settings(tmp_path)


def test_a_file_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b'alias = "\xff"\n')
    with pytest.raises(SettingsError, match="is not TOML"):
        load_settings(tmp_path / "config.toml")


def test_an_unknown_variable_is_named_with_the_nearest_valid_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLORCH_PROT", "1")
    with pytest.raises(SettingsError, match=r"LLORCH_PROT is not a setting \(did you mean LLORCH_PORT\?\)"):
        load_settings()


@pytest.mark.parametrize("name", ["LLORCH_TEST_MODELS", "LLORCH_CPU", "LLORCH_CACHE_DIR", "LLORCH_PROOF_DIR"])
def test_variables_that_are_no_settings_are_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x")
    assert load_settings() == Settings()


def test_all_mistakes_of_all_sources_come_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(tmp_path, "parallel = 0\nwrong = 1\n")
    monkeypatch.setenv("LLORCH_TOP_P", "1.5")
    with pytest.raises(SettingsError) as caught:
        load_settings(path, {"port": 99999, "tempratur": 1})
    message = str(caught.value)
    for part in (
        "parallel in ", "wrong in ", "environment variable LLORCH_TOP_P: ", "flag --port: ",
        "flag --tempratur is not a setting (did you mean temperature?)", "got 99999", "got 1.5",
    ):  # fmt: skip
        assert part in message
    assert "\n" not in message


def test_the_api_key_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLORCH_API_KEY", "secret-key")
    settings = load_settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "secret-key"
    assert "secret-key" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides={"api_key": ["secret-key"]})
    assert "secret-key" not in str(caught.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


@pytest.mark.parametrize("value", ["llm.example, [::1]", " LLM.example.,::1,"])
def test_hosts_come_as_one_string_from_a_flag_a_variable_or_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    expected = ("llm.example", "::1")
    assert load_settings(overrides={"allowed_hosts": value}).allowed_hosts == expected
    assert load_settings(config(tmp_path, f'allowed_hosts = "{value}"\n')).allowed_hosts == expected
    monkeypatch.setenv("LLORCH_ALLOWED_HOSTS", value)
    assert load_settings().allowed_hosts == expected


def test_hosts_may_be_a_list_in_the_file_and_none_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = config(tmp_path, 'allowed_hosts = ["llm.example", "10.0.0.5"]\n')
    assert load_settings(listed).allowed_hosts == ("llm.example", "10.0.0.5")
    monkeypatch.setenv("LLORCH_ALLOWED_HOSTS", "")
    assert load_settings(listed).allowed_hosts == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'allowed_hosts = "llm.example:80"\n',
            r"^allowed_hosts in .*: expected host names .*got 'llm.example:80'",
        ),
        ('allowed_hosts = ["a", "b c"]\n', r"^allowed_hosts in .*: expected host names .*'b c'"),
        ("allowed_hosts = 5\n", r"^allowed_hosts in .*: expected host names .*got 5"),
        ("allowed_hosts = [1]\n", r"^allowed_hosts in .*: expected host names"),
    ],
)
def test_a_bad_list_of_hosts_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(config(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("False", False), ("0", False)])
def test_the_environment_says_true_and_false_in_two_ways(
    text: str, value: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLORCH_PREFIX_CACHE", text)
    assert load_settings().prefix_cache is value


def test_what_is_neither_true_nor_false_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLORCH_PREFIX_CACHE", "perhaps")
    with pytest.raises(SettingsError, match="LLORCH_PREFIX_CACHE: expected true or false"):
        load_settings()


@pytest.mark.parametrize(
    ("flags", "given"),
    [
        ([], {}),
        (["--prefix-cache"], {"prefix_cache": True}),
        (["--no-prefix-cache"], {"prefix_cache": False}),
        (
            ["--cache-dir", "/x", "--cache-dir-mib", "7"],
            {"prefix_cache_dir": "/x", "prefix_cache_dir_mib": 7},
        ),
    ],
)
def test_the_prefix_cache_has_flags(flags: list[str], given: dict[str, object]) -> None:
    parser = argparse.ArgumentParser()
    serve.configure(parser)
    found = vars(parser.parse_args(flags))
    assert {name: value for name, value in found.items() if name.startswith("prefix_cache")} == given
