"""How to run: flags > `LLORCH_*` environment > `config.toml` > defaults, with every mistake named at once.

The configuration file is the one given by `--config`, else by `$LLORCH_CONFIG`. The current directory is not searched:
a file of that name there may belong to another program.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from llorch.errors import SettingsError, shown
from llorch.fields.table import SETTINGS, suggest

ENV_PREFIX = "LLORCH_"
CONFIG_VARIABLE = "LLORCH_CONFIG"
OTHER_VARIABLES = frozenset(
    {
        CONFIG_VARIABLE,
        "LLORCH_CACHE_DIR",
        "LLORCH_CPU",
        "LLORCH_DEBUG",
        "LLORCH_NEWEST",
        "LLORCH_PROOF_DIR",
        "LLORCH_RUN_ID",
        "LLORCH_PYTHON",
        "LLORCH_SUMS",
        "LLORCH_TEST_MODELS",
        "LLORCH_VENV",
    }
)
"""Variables with our prefix that are no settings: paths, and switches for tests."""


def _setting(name: str) -> Any:
    """The pydantic field of a setting: default, limits and words are those of the table."""
    entry = SETTINGS[name]
    return Field(entry.default, description=entry.words, **entry.kind.limits)


class Settings(BaseSettings):
    """How to run; `llorch.fields.table` says what each setting means.

    `Settings(...)` itself looks at no file and no environment.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        extra="forbid",
        frozen=True,
        validate_default=False,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    model: str = _setting("model")
    alias: str | None = _setting("alias")
    ctx_size: int = _setting("ctx_size")
    parallel: int = _setting("parallel")
    batch_size: int = _setting("batch_size")
    threads: int = _setting("threads")
    kv_type: Literal["f16", "f32"] = _setting("kv_type")
    weights: Literal["auto", "packed", "mapped"] = _setting("weights")

    n_predict: int = _setting("n_predict")
    temperature: float = _setting("temperature")
    top_k: int = _setting("top_k")
    top_p: float = _setting("top_p")
    min_p: float = _setting("min_p")
    repetition_penalty: float = _setting("repetition_penalty")
    presence_penalty: float = _setting("presence_penalty")
    frequency_penalty: float = _setting("frequency_penalty")
    penalty_last_n: int = _setting("penalty_last_n")

    host: str = _setting("host")
    port: int = _setting("port")
    api_key: SecretStr | None = _setting("api_key")
    max_waiting: int = _setting("max_waiting")
    max_prompt_chars: int = _setting("max_prompt_chars")
    max_body_bytes: int = _setting("max_body_bytes")
    keep_alive_s: float = _setting("keep_alive_s")
    send_timeout_s: float = _setting("send_timeout_s")
    shutdown_grace_s: float = _setting("shutdown_grace_s")
    log_format: Literal["text", "json"] = _setting("log_format")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("log_level")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: `load_settings` merges the sources, because it must name their origin."""
        return (init_settings,)


def load_settings(
    config_path: Path | str | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    are_flags: bool = True,
) -> Settings:
    """Merge flags, environment, configuration file and defaults.

    Args:
        config_path: the file of `--config`; without it `$LLORCH_CONFIG` is used, if set.
        overrides: values by field name that beat all others; None means that it was not given.
        are_flags: errors spell the overrides as flags; else as arguments of a Python call.

    Raises:
        SettingsError: unknown keys and values out of range, all of them in one message, each with where it
            came from; or a configuration file that was asked for and cannot be read.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    path = config_path or os.environ.get(CONFIG_VARIABLE) or None
    problems: list[str] = []
    sources: list[tuple[Mapping[str, Any], Callable[[str], str]]] = [
        (_from_file(Path(path), problems) if path else {}, lambda name: f"{name} in {path}"),
        (_from_environment(problems), lambda name: f"environment variable {ENV_PREFIX}{name.upper()}"),
        (given, lambda name: "flag --" + name.replace("_", "-") if are_flags else f"argument {name}"),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for values, origin_of in sources:
        for name, value in values.items():
            if name not in SETTINGS:
                problems.append(f"{origin_of(name)} is not a setting{_suggestion(name)}")
                continue
            merged[name], origins[name] = value, origin_of(name)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        problems += [_fault(dict(fault), origins) for fault in error.errors(include_url=False)]
        raise SettingsError("; ".join(problems)) from None
    if problems:
        raise SettingsError("; ".join(problems))
    return settings


def _from_file(path: Path, problems: list[str]) -> dict[str, Any]:
    """Keys of the TOML file at `path`, which must exist."""
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        problems.append(f"configuration file {path} cannot be read: {error.strerror or error}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"configuration file {path} is not TOML: {error}")
        return {}
    for name in [name for name, value in values.items() if isinstance(value, dict)]:
        del values[name]
        problems.append(f"[{name}] in {path} is a section; settings stand at the top level, without sections")
    return values


def _from_environment(problems: list[str]) -> dict[str, Any]:
    """Settings of the environment; any other variable with our prefix is probably a typo."""
    names = {name.upper() for name in SETTINGS}
    for variable in sorted(os.environ):
        name = variable.upper()  # pydantic-settings reads variables in any case
        if not name.startswith(ENV_PREFIX) or name in OTHER_VARIABLES:
            continue
        if name.removeprefix(ENV_PREFIX) not in names:
            problems.append(
                f"environment variable {variable} is not a setting"
                + _suggestion(name.removeprefix(ENV_PREFIX).lower(), variables=True)
            )
    return EnvSettingsSource(Settings)()


def _suggestion(name: str, *, variables: bool = False) -> str:
    """The nearest valid name, as a clause to append."""
    others = OTHER_VARIABLES if variables else ()
    meant = suggest(name, [*SETTINGS, *(variable.removeprefix(ENV_PREFIX).lower() for variable in others)])
    if meant is None:
        return ""
    return f" (did you mean {ENV_PREFIX + meant.upper() if variables else meant}?)"


def _fault(fault: dict[str, Any], origins: Mapping[str, str]) -> str:
    """One of pydantic's faults as a clause for people; secrets are not repeated."""
    name = str(fault["loc"][0])
    origin = origins.get(name, name)
    message = str(fault["msg"])
    message = message[0].lower() + message[1:]
    if name == "api_key":
        return f"{origin}: {message}"
    return f"{origin}: {message}, got {shown(fault.get('input'))}"
