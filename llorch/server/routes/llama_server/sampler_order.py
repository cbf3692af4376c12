"""llama-server's `samplers`: which steps choose a token, in which order. llorch has one order; steps may be left out.

Source: llama.cpp 0.5.0-dev, `common/sampling.cpp`, `common_sampler_types_from_names` and `..._from_chars`.
"""

from __future__ import annotations

from typing import Any

from llorch.errors import FieldError

OFF: dict[str, dict[str, float]] = {
    "penalties": {"penalty_last_n": 0},
    "top_k": {"top_k": 0},
    "top_p": {"top_p": 1.0},
    "min_p": {"min_p": 0.0},
    "temperature": {"temperature": 1.0},
}
"""llorch's steps in its order, and the native parameters that switch each off."""
IDLE = ("dry", "top_n_sigma", "typ_p", "typical_p", "xtc", "adaptive_p")
"""Steps that do nothing unless another field asks for them, which is refused."""
ORDER = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")
"""As llama-server reports the order."""

_LETTERS = {
    "e": "penalties",
    "d": "dry",
    "s": "top_n_sigma",
    "k": "top_k",
    "y": "typ_p",
    "p": "top_p",
    "m": "min_p",
    "x": "xtc",
    "t": "temperature",
    "a": "adaptive_p",
}
_ALIASES = {"nucleus": "top_p", "temp": "temperature", "typ": "typ_p"} | {
    spelling: name
    for name in (*OFF, *IDLE)
    if "_" in name
    for spelling in (name.replace("_", "-"), name.replace("_", ""))
}
_RULE = f"steps in this order, any of them left out: {', '.join(OFF)}"

SAMPLERS_SCHEMA: dict[str, Any] = {
    "description": f"{_RULE}; a list of names, or their letters in one string",
    "anyOf": [{"type": "array", "maxItems": 16, "items": {"enum": [*OFF, *IDLE]}}, {"type": "null"}],
}
"""JSON schema of the field. Letters and other spellings are taken too."""


def sampler_faults(value: object) -> list[FieldError]:
    """What is wrong with `value`, as JSON has it; null is fine."""
    if value is None:
        return []
    names = _names(value)
    if names is None:
        return [_fault("something else")]
    steps = [name for name in names if name in OFF]
    if steps != [name for name in OFF if name in steps]:
        return [_fault("another order")]
    return []


def switched_off(value: object) -> dict[str, float]:
    """The native parameters that leave out what `value`, in which there is no fault, does not name."""
    names = _names(value) or ()
    return {name: off for step, values in OFF.items() if step not in names for name, off in values.items()}


def _names(value: object) -> list[str] | None:
    """The names in `value`; None where it has others, or is no such list."""
    if isinstance(value, str):
        value = [_LETTERS.get(letter) for letter in value[:64]]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return None
    names = [_ALIASES.get(name.lower(), name.lower()) for name in value]
    return names if all(name in OFF or name in IDLE for name in names) else None


def _fault(got: str) -> FieldError:
    return FieldError("samplers", _RULE, f"samplers: expected {_RULE}; got {got}")
