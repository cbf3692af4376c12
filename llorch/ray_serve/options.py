"""What `build_app` takes: every setting of `llorch serve`, and how many replicas of which size there are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llorch.errors import SettingsError
from llorch.fields.field import Field
from llorch.fields.kinds import integer, path
from llorch.fields.table import SETTINGS, suggest
from llorch.machine.threads import default_threads
from llorch.settings import Settings, load_settings

# fmt: off
OPTIONS = {field.name: field for field in (
    Field("config", path(), None,
          words="settings file, as for `llorch serve --config`; read where the application is built"),
    Field("num_cpus", integer(1, 4096), None,
          words="CPUs of a replica, which computes with as many threads; default: the setting `threads`, or as many "
                "as suit the machine where the application is built"),
    Field("min_replicas", integer(0, 10000), 1,
          words="replicas when nothing is to be done"),
    Field("max_replicas", integer(1, 10000), None,
          words="most replicas; more than `min_replicas` lets Serve add and remove them; default: `min_replicas`"),
    Field("gateways", integer(1, 1000), 1,
          words="replicas of the gateway, which computes nothing; with two, one can end without harm to the rest"),
)}
# fmt: on
"""Arguments of `build_app` that are no settings."""

_PATHS = ("model", "chat_template", "prefix_cache_dir")


@dataclass(frozen=True, slots=True)
class Options:
    """How to deploy.

    Attributes:
        settings: of every replica, but for `threads`.
        num_cpus: CPUs, and threads, of a replica.
        min_replicas: replicas when nothing is to be done.
        max_replicas: most replicas.
        gateways: replicas of the gateway.
    """

    settings: Settings
    num_cpus: int
    min_replicas: int
    max_replicas: int
    gateways: int


def parse_options(args: Mapping[str, Any]) -> Options:
    """Merge the arguments of `build_app` with environment, settings file and defaults.

    Args:
        args: by name; numbers and truth values may be text, which is all that `serve run` can give.

    Raises:
        SettingsError: with everything that is wrong with the arguments, or else with the settings.
    """
    known = {**SETTINGS, **OPTIONS}
    problems = [
        f"argument {name[:64]} is neither a setting nor an option of build_app{_meant(name, known)}"
        for name in map(str, args)
        if name not in known
    ]
    given = {name: _value(known[name], value) for name, value in args.items() if name in known}
    given = {name: value for name, value in given.items() if value is not None}
    own = {name: given.pop(name) for name in OPTIONS if name in given}
    for name, value in own.items():
        problems += [f"argument {fault.message}" for fault in OPTIONS[name].faults(value)]
    if problems:
        raise SettingsError("; ".join(problems))
    settings = load_settings(own.get("config"), given, are_flags=False)
    min_replicas = own.get("min_replicas", OPTIONS["min_replicas"].default)
    max_replicas = own.get("max_replicas", max(min_replicas, 1))
    if max_replicas < min_replicas:
        raise SettingsError(
            f"argument max_replicas: expected at least min_replicas ({min_replicas}), got {max_replicas}"
        )
    return Options(
        settings=settings.model_copy(update=_absolute_paths(settings)),
        num_cpus=own.get("num_cpus") or settings.threads or default_threads()[0],
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        gateways=own.get("gateways", OPTIONS["gateways"].default),
    )


def _meant(name: str, known: Mapping[str, Field]) -> str:
    meant = suggest(name, known)
    return "" if meant is None else f" (did you mean {meant}?)"


def _value(field: Field, value: object) -> Any:
    """`value`, read as JSON where it is the text of something that `field` takes no text for."""
    if isinstance(value, str) and field.kind.type in (bool, int, float):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _absolute_paths(settings: Settings) -> dict[str, str]:
    """Paths that are there as seen from here: replicas run in other folders, where they would mean something else."""
    found = {name: getattr(settings, name) for name in _PATHS}
    return {
        name: os.path.abspath(value)
        for name, value in found.items()
        if value is not None and len(value) < 4096 and "\n" not in value and Path(value).exists()
    }
