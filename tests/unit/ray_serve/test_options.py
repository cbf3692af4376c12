"""What `build_app` takes: settings from where `llorch serve` takes them, and its own options."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.errors import SettingsError
from llorch.ray_serve.options import parse_options


def test_arguments_beat_the_environment_which_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("parallel = 3\nmax_waiting = 4\nthreads = 2\nport = 99\n")
    monkeypatch.setenv("LLORCH_MAX_WAITING", "5")
    monkeypatch.setenv("LLORCH_PARALLEL", "6")
    options = parse_options({"config": str(config), "parallel": 7})
    assert (options.settings.parallel, options.settings.max_waiting, options.num_cpus) == (7, 5, 2)


def test_what_serve_run_gives_as_text_is_read_as_numbers_and_truth_values() -> None:
    options = parse_options({"num_cpus": "3", "prefix_cache": "false", "top_p": "0.5", "alias": "7"})
    settings = options.settings
    assert (options.num_cpus, settings.prefix_cache, settings.top_p, settings.alias) == (3, False, 0.5, "7")


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        parse_options({"num_cpus": 0, "max_replica": 2, "gateways": "many"})
    message = str(error.value)
    assert "num_cpus: expected" in message
    assert (
        "max_replica is neither a setting nor an option of build_app (did you mean max_replicas?)" in message
    )
    assert "gateways: expected" in message
    assert "many" not in message.split("gateways")[1]


def test_a_wrong_setting_is_refused_as_an_argument() -> None:
    with pytest.raises(SettingsError, match="argument parallel: expected"):
        parse_options({"parallel": -1})


def test_there_cannot_be_fewer_replicas_at_most_than_at_least() -> None:
    with pytest.raises(SettingsError, match=r"max_replicas: expected at least min_replicas \(3\), got 2"):
        parse_options({"min_replicas": 3, "max_replicas": 2})
    assert parse_options({"min_replicas": 3}).max_replicas == 3


def test_paths_that_are_there_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").touch()
    monkeypatch.chdir(tmp_path)
    assert parse_options({"model": "m.gguf"}).settings.model == str(tmp_path / "m.gguf")
    assert parse_options({"model": "demo"}).settings.model == "demo"
