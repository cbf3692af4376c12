"""Typed access to a config.json; every error names the key, what was expected and what was found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llorch.errors import ModelError, described, shown

_MOST = 1 << 24
"""No size of a real model comes near; larger numbers are refused before anything is computed from them."""


@dataclass(frozen=True, slots=True)
class ConfigValues:
    """An object of JSON.

    Attributes:
        values: by key; a null counts as absent.
        label: what stands in front of errors.
    """

    values: Mapping[str, Any]
    label: str

    def get(self, key: str) -> Any:
        """A value of any type, None where there is none."""
        return self.values.get(key)

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number above 0.

        Raises:
            ModelError: it is none, or missing without a default.
        """
        value = default if self.get(key) is None else self.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"expected a whole number, got {described(value)}")
        if not 1 <= value <= _MOST:
            raise self.error(key, f"{shown(value)} is out of range, expected 1 to {_MOST}")
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        """A finite number above 0, rounded to float32 as a GGUF file stores it, and transformers computes with it.

        Raises:
            ModelError: it is none, or missing without a default.
        """
        value = default if self.get(key) is None else self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"expected a number, got {described(value)}")
        with np.errstate(over="ignore"):
            rounded = float(np.float32(value)) if abs(value) < 1e300 else math.inf
        if not (math.isfinite(rounded) and rounded > 0):
            raise self.error(key, f"{shown(value)} is out of range, expected a finite number above 0")
        return rounded

    def flag(self, key: str, default: bool) -> bool:
        """True or false.

        Raises:
            ModelError: it is neither.
        """
        value = default if self.get(key) is None else self.get(key)
        if not isinstance(value, bool):
            raise self.error(key, f"expected true or false, got {described(value)}")
        return value

    def error(self, key: str, fault: str) -> ModelError:
        """An error about a key."""
        return ModelError(f"{self.label}: {key}: {fault}")
