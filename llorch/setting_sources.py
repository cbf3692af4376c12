"""Where settings come from: the configuration file, the environment, a file that holds the API key.

Each source gives values by name, or says in `problems` what is wrong with it; values are checked by `llorch.settings`.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from llorch.errors import SettingsError, shown
from llorch.fields.api_keys import MAX_KEYS, split_key
from llorch.fields.field import Field
from llorch.fields.table import SETTINGS, suggest
from llorch.formats.printed import printable
from llorch.machine.input_file import opened_input

ENV_PREFIX = "LLORCH_"
CONFIG_VARIABLE = "LLORCH_CONFIG"
OTHER_VARIABLES = frozenset(
    {
        CONFIG_VARIABLE,
        "LLORCH_CACHE_DIR",
        "LLORCH_CPU",
        "LLORCH_DATA_DIR",
        "LLORCH_DEBUG",
        "LLORCH_LOWEST",
        "LLORCH_NEWEST",
        "LLORCH_PROOF_DIR",
        "LLORCH_RUN_ID",
        "LLORCH_PYTHON",
        "LLORCH_SUMS",
        "LLORCH_TEST_LLAMA_CPP",
        "LLORCH_TEST_LLAMA_PERPLEXITY",
        "LLORCH_TEST_MODELS",
        "LLORCH_TEST_SMOLLM2",
        "LLORCH_TEST_TRACE_PROCESSOR",
        "LLORCH_TEST_LLAMA_SERVER",
        "LLORCH_VENV",
    }
)
"""Variables with our prefix that are no settings: paths, and switches for tests."""

SECRETS = ("api_key", "admin_key")
"""Settings that hold keys, which no message repeats; each may come from a file, too."""

_TRUTH = {"true": True, "1": True, "false": False, "0": False}

MAX_CONFIG_BYTES = 1 << 20
MAX_KEY_BYTES = 1 << 18

_SERVICE_LINK = re.compile(
    r"LLORCH_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT, _SERVICE_URL = re.compile(r"LLORCH_(\w+_)?PORT"), re.compile(r"(tcp|udp|sctp)://.*")


def from_file(path: Path, problems: list[str]) -> dict[str, Any]:
    """Keys of the TOML file at `path`, which must exist."""
    try:
        with opened_input(path) as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise ValueError(f"it is larger than {MAX_CONFIG_BYTES} bytes")
        if content.startswith(b"\xef\xbb\xbf"):
            raise ValueError("it begins with a byte order mark; save it as UTF-8 without one")
        values = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        problems.append(f"configuration file {printable(path)} cannot be read: {error.strerror or error}")
        return {}
    except RecursionError:
        problems.append(f"configuration file {printable(path)} is nested too deeply")
        return {}
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        problems.append(f"configuration file {printable(path)} is not TOML: {' '.join(str(error).split())}")
        return {}
    for name in [name for name, value in values.items() if isinstance(value, dict)]:
        del values[name]
        problems.append(
            f"[{name[:64]}] in {printable(path)} is a section; settings stand at the top level, without sections"
        )
    return values


def from_environment(problems: list[str]) -> dict[str, Any]:
    """Settings of the environment, by name; any other variable with our prefix is probably a typo."""
    found: dict[str, Any] = {}
    for variable in sorted(os.environ):
        if not variable.upper().startswith(ENV_PREFIX) or variable.upper() in OTHER_VARIABLES:
            continue
        if is_service_link(variable, os.environ[variable]):
            continue
        name = variable[len(ENV_PREFIX) :].lower()
        if name in SETTINGS:
            found[name] = _parsed(SETTINGS[name], os.environ[variable])
        else:
            clause = suggestion(name, variables=True)
            problems.append(f"environment variable {variable} is not a setting{clause}")
    return found


def is_service_link(variable: str, value: str) -> bool:
    """Whether Kubernetes sets this variable in every pod because a Service is called `llorch` or `llorch-...`.

    Source: https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
    """
    if _SERVICE_LINK.fullmatch(variable):
        return True
    return bool(_SERVICE_PORT.fullmatch(variable) and _SERVICE_URL.fullmatch(value))  # else it is the setting


def service_links() -> str | None:
    """A sentence about the variables of Kubernetes Services that are ignored; None where there are none."""
    names = sorted(name for name, value in os.environ.items() if is_service_link(name, value))
    if not names:
        return None
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return (
        f"ignored {', '.join(names[:2])}{more}: Kubernetes sets them for a Service of that name, they are no settings "
        "(enableServiceLinks: false keeps them out of the pod)"
    )


def keys_of_file(path: Path, origin: str, setting: str = "api_key_file") -> str:
    """The keys in a file, one on each line; empty lines and those that begin with ``#`` say nothing.

    Raises:
        SettingsError: the file cannot be read, or holds something else; the message repeats no key.
    """
    lines = [line.removesuffix("\r") for line in _read_key_file(path, setting).split("\n")]
    return clean_keys([line for line in lines if line.strip() and not line.startswith("#")], origin)


def _read_key_file(path: Path, setting: str) -> str:
    try:
        with opened_input(path) as file:
            content = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            f"{setting} {printable(path)} cannot be read: {error.strerror or error}"
        ) from None
    if len(content) > MAX_KEY_BYTES:
        raise SettingsError(
            f"{setting} {printable(path)} is larger than {MAX_KEY_BYTES} bytes, so it holds no key"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{setting} {printable(path)} is not UTF-8, so it holds no key") from None


def clean_keys(keys: list[str], origin: str) -> str:
    """`keys`, each with or without a name, as the setting has them: one on each line.

    Raises:
        SettingsError: there is none, or one that no client could send, or one twice; the message repeats no key.
    """
    if not keys or not all(keys):
        raise SettingsError(f"{origin}: the key is empty; leave it out to serve without a key")
    if len(keys) > MAX_KEYS:
        raise SettingsError(f"{origin}: {len(keys)} keys, at most {MAX_KEYS} are possible")
    if any(key != key.strip() or any(ord(c) < 32 or ord(c) == 127 for c in key) for key in keys):
        raise SettingsError(
            f"{origin}: the key has blanks at its ends or control characters (a second line, a tab), which no "
            "client could send"
        )
    if len({split_key(key)[1] for key in keys}) < len(keys):
        raise SettingsError(f"{origin}: the same key stands there twice")
    return "\n".join(keys)


def suggestion(name: str, *, variables: bool = False) -> str:
    """The nearest valid name, as a clause to append."""
    others = OTHER_VARIABLES if variables else ()
    meant = suggest(name, [*SETTINGS, *(variable.removeprefix(ENV_PREFIX).lower() for variable in others)])
    if meant is None:
        return ""
    return f" (did you mean {ENV_PREFIX + meant.upper() if variables else meant}?)"


def _parsed(field: Field, text: str) -> Any:
    """`text` as a number or a truth value where the field takes one and it is one; what it is not is refused later."""
    if field.kind.type is bool:
        return _TRUTH.get(text.strip().lower(), text)
    if field.kind.type in (int, float):
        try:
            return field.kind.type(text)
        except ValueError:
            return text
    return text


def got(name: str, value: object) -> str:
    """`value` as a clause to append; a secret is not repeated."""
    return "" if name in SECRETS else f", got {shown(value)}"
