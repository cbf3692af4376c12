"""Flags that several commands share, and how they become settings.

A flag that sets a setting has the setting's name as its `dest` and no default of its own, so that only what the
user typed overrides the environment and `config.toml`.
"""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llorch.cli.logs import configure_logging
from llorch.fields.field import Field
from llorch.fields.table import FIELDS, REQUEST, SETTINGS

if TYPE_CHECKING:
    from llorch.open_model import OpenModel
    from llorch.settings import Settings, SettingsWithOrigins

logger = logging.getLogger(__name__)
_NAMED = re.compile("`([^`]*)`")


def add_common(parser: argparse.ArgumentParser) -> None:
    """The flags that every command has."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings file (TOML; default: $LLORCH_CONFIG, if set)"
    )
    add_field(parser, "model")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`: one document on stdout and nothing else there."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def add_field(parser: argparse._ActionsContainer, name: str, *flags: str, **options: Any) -> None:
    """Add the flag of a setting or request field.

    Args:
        parser: a parser or a group of one.
        name: of the field in `llorch.fields.table`, which has its spellings and its help.
        flags: other spellings, where a command uses those of the table for something else.
        options: keywords of `add_argument` that override the table.
    """
    field = FIELDS[name]
    is_setting = name in SETTINGS
    default = "" if field.default in (None, ()) or not is_setting else f" (default: {field.default})"
    value: dict[str, Any] = {
        "type": field.kind.type if field.kind.type in (int, float) else str,
        "metavar": field.metavar or _metavar(field),
    }
    if is_setting and field.kind.type is bool:  # --name and --no-name
        value = {"action": argparse.BooleanOptionalAction}
    options = {
        **value,
        "default": argparse.SUPPRESS if is_setting else None,
        "help": _NAMED.sub(lambda named: _spelled(named[1]), field.words) + default,
        **options,
    }
    parser.add_argument(*(flags or field.flags or [_flag(name)]), dest=name, **options)


def add_stop(parser: argparse.ArgumentParser) -> None:
    """`--stop`, once for each string."""
    words = "the text ends before this string; may be given several times"
    add_field(parser, "stop", action="append", default=[], help=words)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting; flags are spelled as llama-server spells them."""
    sections = {field.section: parser.add_argument_group(field.section) for field in SETTINGS.values()}
    for name, field in SETTINGS.items():
        if name != "model":  # every command has that one
            add_field(sections[field.section], name)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How tokens are chosen; the names are those of `POST /generate`."""
    group = parser.add_argument_group("sampling")
    for name in (name for name in SETTINGS if name in REQUEST):
        add_field(group, name)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _spelled(name: str) -> str:
    """What a text of the table names, as it is said on the command line: another setting by its flag."""
    setting = SETTINGS.get(name)
    if setting is None:
        return name
    return next((flag for flag in setting.flags if flag.startswith("--")), _flag(name))


def _metavar(field: Field) -> str:
    if field.kind.choices:
        return "|".join(field.kind.choices)
    return {int: "N", float: "X"}.get(field.kind.type, field.name.upper())


def settings_from(args: argparse.Namespace, *, has_log: bool = False) -> Settings:
    """Settings of this run: flags, then the environment, then the settings file, then the defaults.

    Args:
        args: the parsed command line.
        has_log: whether the command writes a log in the format of the settings, which begins now.

    Raises:
        SettingsError: a setting is unknown or out of range, wherever it came from.
    """
    return settings_with_origins(args, has_log=has_log).settings


def settings_with_origins(args: argparse.Namespace, *, has_log: bool = False) -> SettingsWithOrigins:
    """The same, and where each setting comes from."""
    from llorch.setting_sources import service_links
    from llorch.settings import load_with_origins

    overrides = {name: value for name, value in vars(args).items() if name in SETTINGS}
    loaded = load_with_origins(args.config, overrides)
    if has_log:
        configure_logging(loaded.settings.log_format, loaded.settings.log_level)
    if ignored := service_links():
        logger.warning("%s", ignored)
    return loaded


def load_with_progress(settings: Settings, *, with_chat_template: bool = False) -> OpenModel:
    """Load the model of `settings`; a terminal sees what is compiled and loaded."""
    from llorch.cli.console import Progress
    from llorch.engine.engine import open_configured

    with Progress() as progress:
        return open_configured(settings, progress, with_chat_template=with_chat_template)
