"""How to run: flags > `LLORCH_*` environment > `config.toml` > defaults, with every mistake named at once.

The configuration file is the one given by `--config`, else by `$LLORCH_CONFIG`; nothing is picked up from the
current directory, where a file of that name may belong to another program or to somebody else.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from llorch.errors import SettingsError

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
"""Variables with our prefix that are no settings: where things lie, and switches for tests."""


class Settings(BaseSettings):
    """Every setting with its default. `Settings(...)` itself looks at no file and no environment."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, validate_default=False, hide_input_in_errors=True
    )

    # The model and how it is computed
    model: str = Field("demo", min_length=1, description="a .gguf file, or 'demo', the embedded model")
    alias: str | None = Field(
        None, min_length=1, description="name the server shows instead of the model's own"
    )
    ctx_size: int = Field(
        0, ge=0, description="tokens one sequence may hold, 0 = as many as the model was trained on"
    )
    parallel: int = Field(4, ge=1, le=256, description="sequences computed at the same time")
    batch_size: int = Field(512, ge=1, le=65536, description="most tokens in one forward pass")
    threads: int = Field(0, ge=0, le=1024, description="compute threads, 0 = as many as suit the machine")
    kv_type: Literal["f16", "f32"] = Field("f16", description="number type of the KV cache")
    weights: Literal["auto", "packed", "mapped"] = Field(
        "auto", description="re-tiled once into memory, or used where they lie in the file"
    )

    # Defaults of a request
    n_predict: int = Field(256, ge=1, description="max_tokens when a request does not say")
    temperature: float = Field(0.8, ge=0, le=2, allow_inf_nan=False)
    top_k: int = Field(40, ge=0)
    top_p: float = Field(0.95, ge=0, le=1, allow_inf_nan=False)
    min_p: float = Field(0.05, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float = Field(1.0, gt=0, le=2, allow_inf_nan=False)
    presence_penalty: float = Field(0.0, ge=-2, le=2, allow_inf_nan=False)
    frequency_penalty: float = Field(0.0, ge=-2, le=2, allow_inf_nan=False)
    penalty_last_n: int = Field(
        64, ge=-1, description="tokens the penalties look back on, -1 = all, 0 = none"
    )

    # The server
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8080, ge=0, le=65535, description="0 = any free port")
    api_key: SecretStr | None = Field(None, min_length=1)
    max_waiting: int = Field(64, ge=0, description="requests that may wait for a free slot; more get 503")
    max_prompt_chars: int = Field(32768, ge=1)
    max_body_bytes: int = Field(1 << 20, ge=1024)
    keep_alive_s: float = Field(
        15.0, gt=0, le=3600, allow_inf_nan=False, description="silence between SSE comments"
    )
    send_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="a client that reads nothing for so long is dropped",
    )
    shutdown_grace_s: float = Field(10.0, ge=0, le=3600, allow_inf_nan=False)
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

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
            if name not in Settings.model_fields:
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
    """Settings of the environment; any other variable with our prefix is a mistake, probably a typo."""
    names = {name.upper() for name in Settings.model_fields}
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
    candidates = list(Settings.model_fields)
    if variables:
        candidates += [variable.removeprefix(ENV_PREFIX).lower() for variable in OTHER_VARIABLES]
    close = difflib.get_close_matches(name.lower().replace("-", "_"), candidates, n=1, cutoff=0.6)
    if not close:
        return ""
    return f" (did you mean {ENV_PREFIX + close[0].upper() if variables else close[0]}?)"


def _fault(fault: dict[str, Any], origins: Mapping[str, str]) -> str:
    """One of pydantic's faults as a clause for people; secrets are not repeated."""
    name = str(fault["loc"][0])
    origin = origins.get(name, name)
    message = str(fault["msg"])
    message = message[0].lower() + message[1:]
    if name == "api_key":
        return f"{origin}: {message}"
    return f"{origin}: {message}, got {_shorten(fault.get('input'))}"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
