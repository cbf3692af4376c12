"""How to run: flags > `LLORCH_*` environment > `config.toml` > defaults, with every mistake named at once.

The configuration file is the one given by `--config`, else by `$LLORCH_CONFIG`. The current directory is not searched:
a file of that name there may belong to another program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, SecretStr, model_validator

from llorch.errors import SettingsError
from llorch.fields.hosts import host_list
from llorch.fields.kinds import check_path
from llorch.fields.table import SETTINGS
from llorch.setting_sources import (
    CONFIG_VARIABLE,
    ENV_PREFIX,
    clean_keys,
    from_environment,
    from_file,
    got,
    keys_of_file,
    read_key_file,
    suggestion,
)


def _setting(name: str) -> Any:
    """The pydantic field of a setting: default, limits and words are those of the table."""
    entry = SETTINGS[name]
    return Field(entry.default, description=entry.words, **entry.kind.limits)


PathText = Annotated[str, PlainValidator(check_path)]


class Settings(BaseModel):
    """How to run; `llorch.fields.table` says what each setting means.

    `Settings(...)` itself looks at no file and no environment; `load_settings` does.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=False,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    model: PathText = _setting("model")
    alias: str | None = _setting("alias")
    ctx_size: int = _setting("ctx_size")
    parallel: int = _setting("parallel")
    batch_size: int = _setting("batch_size")
    threads: int = _setting("threads")
    kv_type: Literal["f16", "f32"] = _setting("kv_type")
    prefix_cache: bool = _setting("prefix_cache")
    prefix_cache_dir: PathText | None = _setting("prefix_cache_dir")
    prefix_cache_dir_mib: int = _setting("prefix_cache_dir_mib")
    weights: Literal["auto", "packed", "mapped"] = _setting("weights")
    draft: Literal["off", "ngram"] = _setting("draft")
    override_pre: str | None = _setting("override_pre")
    chat_template: str | None = _setting("chat_template")

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
    api_key_file: PathText | None = _setting("api_key_file")
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(host_list)] = _setting("allowed_hosts")
    max_waiting: int = _setting("max_waiting")
    max_prompt_chars: int = _setting("max_prompt_chars")
    max_body_bytes: int = _setting("max_body_bytes")
    keep_alive_s: float = _setting("keep_alive_s")
    send_timeout_s: float = _setting("send_timeout_s")
    shutdown_grace_s: float = _setting("shutdown_grace_s")
    log_format: Literal["text", "json"] = _setting("log_format")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("log_level")

    @model_validator(mode="after")
    def _has_read_its_key(self) -> Self:
        """Refuse to look guarded without being so: nothing but `load_settings` reads the file."""
        if self.api_key_file is not None and self.api_key is None:
            raise ValueError("api_key_file is read by load_settings, not by Settings")
        return self


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
        (from_file(Path(path), problems) if path else {}, lambda name: f"{name} in {path}"),
        (from_environment(problems), lambda name: f"environment variable {ENV_PREFIX}{name.upper()}"),
        (given, lambda name: "flag --" + name.replace("_", "-") if are_flags else f"argument {name}"),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for values, origin_of in sources:
        for name, value in values.items():
            if name not in SETTINGS:
                problems.append(f"{origin_of(name[:64])} is not a setting{suggestion(name)}")
                continue
            merged[name], origins[name] = value, origin_of(name)
    for name, value in merged.items():
        merged[name] = SETTINGS[name].plain(value)
        if name != "api_key" and SETTINGS[name].faults(merged[name]):
            problems.append(f"{origins[name]}: expected {SETTINGS[name].rule}{got(name, value)}")
    if not problems:
        problems += _resolve_keys(merged, origins)
    if problems:
        raise SettingsError("; ".join(problems))
    return Settings(**merged)


def _resolve_keys(merged: dict[str, Any], origins: Mapping[str, str]) -> list[str]:
    """Put the keys of either source, if there are any, into `merged`; returns what is wrong with them."""
    if "api_key" in merged and "api_key_file" in merged:
        return [f"{origins['api_key']} and {origins['api_key_file']} exclude each other"]
    try:
        if "api_key_file" in merged:
            path = merged["api_key_file"]
            keys = keys_of_file(read_key_file(Path(path)))
            merged["api_key"] = clean_keys(keys, f"{origins['api_key_file']} ({path})")
        elif "api_key" in merged:
            if not isinstance(merged["api_key"], str):
                return [f"{origins['api_key']}: expected a string"]
            keys = merged["api_key"].removesuffix("\n").removesuffix("\r").split(",")
            merged["api_key"] = clean_keys(keys, origins["api_key"])
    except SettingsError as error:
        return [str(error)]
    return []
