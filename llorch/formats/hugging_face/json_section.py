"""Objects of JSON files, read as types; every error names the file, the key, what was expected and what was got."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from llorch.errors import ModelError, described
from llorch.formats.folder import file_inside
from llorch.formats.json_file import parse_json, read_bytes
from llorch.formats.printed import printable

MAX_TOKEN_ID = (1 << 31) - 1

_T = TypeVar("_T", str, bool, int, list[Any], dict[str, Any])


@dataclass(frozen=True, slots=True)
class Section:
    """An object of a JSON file, or inside of one.

    Attributes:
        label: the file, as it stands in front of errors.
        values: what stands in it; a key with the value null counts as absent.
        keys: that lead to the object, each with a dot behind.
    """

    label: str
    values: Mapping[str, Any] = field(default_factory=dict)
    keys: str = ""

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str) -> str | None:
        """The string under `name`."""
        return self._typed(name, str, "a string")

    def flag(self, name: str, default: bool = False) -> bool:
        """The truth value under `name`."""
        value = self._typed(name, bool, "true or false")
        return default if value is None else value

    def token_id(self, name: str) -> int | None:
        """The token id under `name`; None where it is negative, which says that there is no such token."""
        value = self._typed(name, int, "a token id")
        if value is not None and (isinstance(value, bool) or value > MAX_TOKEN_ID):
            raise self.fault(name, f"a token id up to {MAX_TOKEN_ID}")
        return None if value is None or value < 0 else value

    def section(self, name: str) -> Section | None:
        """The object under `name`."""
        value = self._typed(name, dict, "an object")
        return None if value is None else Section(self.label, value, f"{self.keys}{name}.")

    def items(self, name: str) -> list[Any]:
        """The array under `name`; empty where there is none."""
        return self._typed(name, list, "an array") or []

    def sections(self, name: str) -> list[Section]:
        """The objects of the array under `name`."""
        items = self.items(name)
        for i, item in enumerate(items):
            if not isinstance(item, dict):
                raise ModelError(
                    f"{self.label}: {self.keys}{name}[{i}]: expected an object, got {described(item)}"
                )
        return [Section(self.label, item, f"{self.keys}{name}[{i}].") for i, item in enumerate(items)]

    def needed(self, name: str) -> str:
        """The string under `name`, which must be there."""
        value = self.text(name)
        if value is None:
            raise self.fault(name, "a string")
        return value

    def fault(self, name: str, expected: str) -> ModelError:
        """An exception about the value under `name`, to be raised by the caller."""
        got = described(self.values.get(name))
        return ModelError(f"{self.label}: {self.keys}{name}: expected {expected}, got {got}")

    def _typed(self, name: str, kind: type[_T], expected: str) -> _T | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, kind):
            raise self.fault(name, expected)
        return value


def optional_file(directory: Path, name: str) -> Path | None:
    """The file called `name`, if the directory has one.

    Raises:
        ModelError: it is a link that leads out of the directory, or nowhere.
    """
    if not os.path.lexists(directory / name):
        return None
    return file_inside(directory, name, printable(directory))


def optional_section(directory: Path, name: str) -> Section:
    """The object in a JSON file; empty where the directory has none.

    Raises:
        ModelError: the file cannot be read, or holds something else.
    """
    path = optional_file(directory, name)
    label = printable(directory / name)
    return Section(label) if path is None else Section(label, parse_json(read_bytes(path), label))
