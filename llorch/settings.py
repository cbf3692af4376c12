"""How to run: flags > `LLORCH_*` environment > `config.toml` > defaults, with every mistake named at once.

The configuration file is the one given by `--config`, else by `$LLORCH_CONFIG`. The current directory is not searched:
a file of that name there may belong to another program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, SecretStr, model_validator

from llorch.errors import SettingsError
from llorch.fields.hosts import host_list
from llorch.fields.kinds import check_path
from llorch.fields.origins import origin_list
from llorch.fields.table import SETTINGS
from llorch.formats.printed import printable
from llorch.setting_sources import (
    CONFIG_VARIABLE,
    ENV_PREFIX,
    SECRETS,
    clean_keys,
    from_environment,
    from_file,
    got,
    keys_of_file,
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
    pin_threads: bool = _setting("pin_threads")
    numa: Literal["off", "distribute", "isolate", "numactl"] = _setting("numa")
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

    pooling: Literal["mean", "last"] = _setting("pooling")

    host: str = _setting("host")
    port: int = _setting("port")
    socket_mode: Literal["600", "660", "666"] = _setting("socket_mode")
    ssl_cert_file: PathText | None = _setting("ssl_cert_file")
    ssl_key_file: PathText | None = _setting("ssl_key_file")
    api_key: SecretStr | None = _setting("api_key")
    api_key_file: PathText | None = _setting("api_key_file")
    admin_key: SecretStr | None = _setting("admin_key")
    admin_key_file: PathText | None = _setting("admin_key_file")
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(host_list)] = _setting("allowed_hosts")
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(origin_list)] = _setting("cors_origins")
    page: bool = _setting("page")
    max_waiting: int = _setting("max_waiting")
    request_timeout_s: float = _setting("request_timeout_s")
    max_answer_tokens: int = _setting("max_answer_tokens")
    max_choices: int = _setting("max_choices")
    max_prompt_chars: int = _setting("max_prompt_chars")
    max_body_bytes: int = _setting("max_body_bytes")
    keep_alive_s: float = _setting("keep_alive_s")
    send_timeout_s: float = _setting("send_timeout_s")
    shutdown_grace_s: float = _setting("shutdown_grace_s")
    log_format: Literal["text", "json"] = _setting("log_format")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("log_level")
    metrics_names: Literal["llorch", "vllm"] = _setting("metrics_names")
    metrics_without_key: bool = _setting("metrics_without_key")
    otel_endpoint: str | None = _setting("otel_endpoint")

    def most_tokens(self, n_ctx: int) -> int:
        """`n_predict` in a context of `n_ctx` tokens: -1 is all of it."""
        return n_ctx if self.n_predict < 0 else self.n_predict

    @model_validator(mode="after")
    def _has_read_its_key(self) -> Self:
        """Refuse to look guarded without being so: nothing but `load_settings` reads the file."""
        for name in SECRETS:
            if getattr(self, f"{name}_file") is not None and getattr(self, name) is None:
                raise ValueError(f"{name}_file is read by load_settings, not by Settings")
        return self


@dataclass(frozen=True)
class SettingsWithOrigins:
    """Settings, and where each comes from.

    Attributes:
        settings: the settings.
        origins: by name: `"file config.toml"`, `"environment variable LLORCH_PORT"`, `"flag --port"`; a setting that is
            not there has its default.
        config_path: the settings file that was read, if there was one.
    """

    settings: Settings
    origins: Mapping[str, str]
    config_path: str | None


def load_settings(
    config_path: Path | str | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    are_flags: bool = True,
) -> Settings:
    """The settings of `load_with_origins`, which has the same arguments and errors."""
    return load_with_origins(config_path, overrides, are_flags=are_flags).settings


def load_with_origins(
    config_path: Path | str | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    are_flags: bool = True,
) -> SettingsWithOrigins:
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
    shown_path = printable(path) if path else ""
    problems: list[str] = []
    sources: list[tuple[Mapping[str, Any], Callable[[str], str]]] = [
        (from_file(Path(path), problems) if path else {}, lambda name: f"{name} in {shown_path}"),
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
        if name not in SECRETS and SETTINGS[name].faults(merged[name]):
            problems.append(f"{origins[name]}: expected {SETTINGS[name].rule}{got(name, value)}")
    if not problems:
        problems += _together(merged)
        for name in SECRETS:
            problems += _resolve_keys(name, merged, origins)
    if problems:
        raise SettingsError("; ".join(problems))
    origins |= {
        name: f"file {path}" for name, origin in origins.items() if origin == f"{name} in {shown_path}"
    }
    for name in SECRETS:
        if f"{name}_file" in merged:
            origins[name] = f"file {merged[f'{name}_file']}"
    return SettingsWithOrigins(Settings(**merged), origins, str(path) if path else None)


def _together(merged: Mapping[str, Any]) -> list[str]:
    """What is wrong with settings that depend on each other."""
    if ("ssl_cert_file" in merged) != ("ssl_key_file" in merged):
        return ["ssl_cert_file and ssl_key_file go together: only one of them is set"]
    return []


def _resolve_keys(name: str, merged: dict[str, Any], origins: Mapping[str, str]) -> list[str]:
    """Put the keys of either source of the setting `name`, if there are any, into `merged`; what is wrong with them."""
    name_of_file = f"{name}_file"
    if name in merged and name_of_file in merged:
        return [f"{origins[name]} and {origins[name_of_file]} exclude each other"]
    try:
        if name_of_file in merged:
            path = merged[name_of_file]
            merged[name] = keys_of_file(
                Path(path), f"{origins[name_of_file]} ({printable(path)})", name_of_file
            )
        elif name in merged:
            if not isinstance(merged[name], str):
                return [f"{origins[name]}: expected a string"]
            keys = merged[name].removesuffix("\n").removesuffix("\r").split(",")
            merged[name] = clean_keys(keys, origins[name])
    except SettingsError as error:
        return [str(error)]
    return []
