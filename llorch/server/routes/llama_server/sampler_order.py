"""llama-server's `samplers`: which steps choose a token, in which order, under its names.

Source: llama.cpp 0.5.0-dev, `common/sampling.cpp`, `common_sampler_types_from_names` and `..._from_chars`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llorch.errors import FieldError
from llorch.fields.sampling_table import STEPS

_THEIRS = {"typical_p": "typ_p"}
"""Steps that llama-server calls otherwise."""
_ADAPTIVE = "adaptive_p"
"""A step that is always the last, wherever it stands, and does nothing unless `adaptive_target` is given."""
_LETTERS = {
    "e": "penalties",
    "d": "dry",
    "s": "top_n_sigma",
    "k": "top_k",
    "y": "typical_p",
    "p": "top_p",
    "m": "min_p",
    "x": "xtc",
    "t": "temperature",
    "a": _ADAPTIVE,
}
_ALIASES = {"nucleus": "top_p", "temp": "temperature", "typ": "typical_p", "typ_p": "typical_p"} | {
    spelling: name
    for name in (*STEPS, _ADAPTIVE)
    if "_" in name
    for spelling in (name.replace("_", "-"), name.replace("_", ""))
}
_RULE = f"steps among {', '.join(STEPS)}, each at most once"

SAMPLERS_SCHEMA: dict[str, Any] = {
    "description": f"{_RULE}, in the order wanted; a list of names, or their letters in one string",
    "anyOf": [
        {"type": "array", "maxItems": 16, "uniqueItems": True, "items": {"enum": [*STEPS, _ADAPTIVE]}},
        {"type": "null"},
    ],
}
"""JSON schema of the field. Letters and other spellings are taken too."""


def shown_steps(steps: Iterable[str]) -> list[str]:
    """The steps under llama-server's names."""
    return [_THEIRS.get(name, name) for name in steps]


def sampler_faults(value: object) -> list[FieldError]:
    """What is wrong with `value`, as JSON has it; null is fine."""
    if value is None:
        return []
    names = _names(value)
    if names is None:
        return [_fault("something else")]
    return [_fault("one twice")] if len(set(names)) < len(names) else []


def steps_of(value: object) -> tuple[str, ...]:
    """The steps that `value`, in which there is no fault, names."""
    return tuple(name for name in _names(value) or () if name != _ADAPTIVE)


def names_adaptive(value: object) -> bool:
    """Whether `value`, in which there is no fault, names adaptive-p."""
    return _ADAPTIVE in (_names(value) or ())


def _names(value: object) -> list[str] | None:
    """The names in `value`; None where it has others, or is no such list."""
    if isinstance(value, str):
        value = [_LETTERS.get(letter) for letter in value[:64]]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return None
    names = [_ALIASES.get(name.lower(), name.lower()) for name in value]
    return names if all(name in STEPS or name == _ADAPTIVE for name in names) else None


def _fault(got: str) -> FieldError:
    return FieldError("samplers", _RULE, f"samplers: expected {_RULE}; got {got}")
