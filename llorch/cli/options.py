"""Flags that several commands share, and how they become settings.

A flag that sets a setting has the setting's name as its `dest` and no default of its own, so that only what
the user typed overrides the environment and `config.toml`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from llorch.errors import InputError

if TYPE_CHECKING:
    from llorch.open_model import OpenModel
    from llorch.settings import Settings


def add_common(parser: argparse.ArgumentParser) -> None:
    """The flags that every command has."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings file (TOML; default: $LLORCH_CONFIG, if set)"
    )
    add_setting(
        parser, "-m", "--model", metavar="PATH", help="a .gguf file, or `demo`, the embedded model (default)"
    )


def add_setting(
    parser: argparse.ArgumentParser,
    *flags: str,
    dest: str | None = None,
    type: type = str,
    metavar: str | None = None,
    help: str,
) -> None:
    """Add a flag that overrides the setting of the same name (or `dest`)."""
    name = dest or flags[-1].lstrip("-").replace("-", "_")
    parser.add_argument(
        *flags, dest=name, type=type, metavar=metavar or name.upper(), default=argparse.SUPPRESS, help=help
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """`-t/--threads`, on every command that computes."""
    add_setting(
        parser,
        "-t",
        "--threads",
        type=int,
        metavar="N",
        help="compute threads (default: as many as suit the CPU)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`: one document on stdout and nothing else there."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How tokens are chosen; the names are those of `POST /generate`."""
    group = parser.add_argument_group("sampling")
    for flags, kind, text in (
        (("--temperature", "--temp"), float, "0 takes the most probable token each time"),
        (("--top-k",), int, "keep the K most probable tokens; 0 keeps all"),
        (("--top-p",), float, "keep the most probable tokens that sum up to P; 1 keeps all"),
        (("--min-p",), float, "drop tokens less probable than P times the best; 0 keeps all"),
        (("--repetition-penalty",), float, "above 1 makes tokens seen lately less probable"),
        (("--presence-penalty",), float, "subtracted from the logit of each token seen lately"),
        (("--frequency-penalty",), float, "subtracted as many times as the token was seen lately"),
    ):
        name = flags[0].lstrip("-").replace("-", "_")
        group.add_argument(
            *flags,
            dest=name,
            type=kind,
            metavar=kind.__name__[0].upper(),
            default=argparse.SUPPRESS,
            help=text,
        )


def settings_from(args: argparse.Namespace) -> Settings:
    """Settings of this run: flags, then the environment, then the settings file, then the defaults.

    Raises:
        SettingsError: a setting is unknown or out of range, wherever it came from.
    """
    from llorch.settings import Settings, load_settings

    overrides = {name: value for name, value in vars(args).items() if name in Settings.model_fields}
    return load_settings(args.config, overrides)


def check_text(text: str, what: str) -> str:
    """`text` as it came from the command line, if it is text at all.

    Raises:
        InputError: it holds bytes that are no UTF-8 (Python hands them on as lone surrogates).
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not valid UTF-8 (character {error.start + 1})") from None
    return text


def load_with_progress(settings: Settings) -> OpenModel:
    """Load the model of `settings`; a terminal sees what is compiled and loaded."""
    from llorch.cli.console import Progress
    from llorch.engine.engine import open_configured

    with Progress() as progress:
        return open_configured(settings, progress)
