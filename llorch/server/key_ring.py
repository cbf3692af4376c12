"""The API keys in force, which can be read again while requests run."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from starlette.datastructures import Headers

from llorch.errors import SettingsError
from llorch.fields.api_keys import owners_by_key
from llorch.formats.printed import printable
from llorch.setting_sources import keys_of_file
from llorch.settings import Settings

logger = logging.getLogger(__name__)


class KeyRing:
    """Who uses each key of a setting: those of users, or those of whoever runs the server.

    Args:
        settings: have such keys.
        name: of the setting that holds them.

    Attributes:
        owners: names by key. Replaced as a whole, so that a request sees either the old keys or the new ones.
    """

    owners: Mapping[bytes, str]

    def __init__(self, settings: Settings, name: str = "api_key") -> None:
        self.owners = owners_by_key(getattr(settings, name).get_secret_value())
        self._setting = f"{name}_file"
        self._path: str | None = getattr(settings, self._setting)
        self._kind = "admin keys" if name == "admin_key" else "API keys"

    def owner(self, headers: Headers) -> str | None:
        """Whose the key in `headers` is. All keys are compared, so that the time tells nothing about them."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        sent = given.encode("latin-1", "replace")
        found = None
        for key, owner in self.owners.items():
            if hmac.compare_digest(sent, key):
                found = owner
        return found

    def reload(self) -> None:
        """Read the file of keys again, if they came from one; takes milliseconds for each key without a name.

        Running requests go on, whoever's they are.

        Raises:
            SettingsError: the file is no good; the keys stay as they are.
        """
        if self._path is None:
            return
        if Path(self._path).is_fifo():  # it had one reader, and might be waited for for ever
            raise SettingsError(
                f"{self._setting} {printable(self._path)} is a pipe, which can only be read once"
            )
        found = owners_by_key(
            keys_of_file(Path(self._path), f"{self._setting} {printable(self._path)}", self._setting)
        )
        added = {owner for _, owner in found.items() - self.owners.items()}
        removed = {owner for _, owner in self.owners.items() - found.items()}
        changes = (
            ("replaced", added & removed),
            ("added", added - removed),
            ("removed", removed - added),
        )
        words = "; ".join(f"{verb}: {_listed(names)}" for verb, names in changes if names)
        self.owners = found
        logger.info(
            "%d %s read from %s; %s", len(found), self._kind, self._path, words or "nothing has changed"
        )


def _listed(names: Iterable[str], most: int = 20) -> str:
    """Names in order, so many of them."""
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
