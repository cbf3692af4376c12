"""Reading JSON manifests with errors that name the field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llorch.errors import ReferenceDumpError

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object of a manifest.

    Attributes:
        values: the object.
        where: file, and path of the object in it, for messages.
    """

    values: Mapping[str, Any]
    where: str

    def section(self, name: str) -> Fields:
        """A nested object."""
        value = self._get(name, dict, "an object")
        return Fields(value, f"{self.where}: {name}")

    def text(self, name: str) -> str:
        """A string."""
        value: str = self._get(name, str, "a string")
        return value

    def sha256(self, name: str) -> str:
        """A SHA-256 in lower-case hex."""
        value = self.text(name)
        if not _SHA256.fullmatch(value):
            raise self._error(name, value, "64 hex digits")
        return value

    def count(self, name: str, at_least: int = 0, below: int | None = None) -> int:
        """A whole number."""
        return self._whole(name, self._get(name, int, "a whole number"), at_least, below)

    def counts(self, name: str, below: int) -> tuple[int, ...]:
        """A list of whole numbers from 0 to `below` - 1."""
        values = self._get(name, list, "a list")
        return tuple(self._whole(name, value, 0, below) for value in values)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        values = self._get(name, list, "a list")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise self._error(name, value, "finite numbers")
        return tuple(float(value) for value in values)

    def _whole(self, name: str, value: Any, at_least: int, below: int | None) -> int:
        in_range = isinstance(value, int) and not isinstance(value, bool) and value >= at_least
        if not in_range or (below is not None and value >= below):
            limit = "" if below is None else f" and below {below}"
            raise self._error(name, value, f"a whole number of at least {at_least}{limit}")
        return int(value)

    def _get(self, name: str, kind: type, expected: str) -> Any:
        if name not in self.values:
            raise ReferenceDumpError(f"{self.where}: {name} is missing")
        value = self.values[name]
        if not isinstance(value, kind):
            raise self._error(name, value, expected)
        return value

    def _error(self, name: str, value: Any, expected: str) -> ReferenceDumpError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return ReferenceDumpError(f"{self.where}: {name} is {shown}, expected {expected}")
