"""One spelling of a JSON value, and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
_MAX_EXACT_FLOAT = 2**53


def canonical(value: Any) -> bytes:
    """`value` as JSON in UTF-8: keys sorted, no spaces, whole numbers without a fraction.

    So it survives programs that read and write it again, those whose only numbers are float64 too.

    Raises:
        ValueError: it holds NaN or an infinity, or text that is no Unicode.
    """
    return _ENCODER.encode(_with_integers(value)).encode()


def sha256_of(value: Any) -> str:
    """SHA-256 of `canonical` of it, in hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _with_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_integers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_integers(item) if type(item) is not int else item for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_EXACT_FLOAT:
        return int(value)
    return value
