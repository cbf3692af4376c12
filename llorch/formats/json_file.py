"""JSON files of untrusted models: bounded, plain numbers only, each name once."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from llorch.errors import ModelError
from llorch.formats.printed import printable, quote

MAX_JSON_BYTES = 1 << 27
"""A tokenizer.json with 256,000 tokens and their merges has 35 MB."""
MAX_JSON_VALUES = 1 << 23
"""Each takes up to 70 bytes of memory; the tokenizer.json above has 2.5 million."""


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The object in a file.

    Raises:
        ModelError: the file cannot be read, is larger than `limit` bytes, is not JSON, or holds no object.
    """
    return parse_json(read_bytes(path, limit), printable(path))


def read_bytes(path: Path, limit: int = MAX_JSON_BYTES) -> bytes:
    """All of a small file.

    Raises:
        ModelError: the file cannot be read, is no regular file, or is larger than `limit` bytes.
    """
    label = printable(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{label}: is no regular file")
        if status.st_size > limit:
            raise ModelError(f"{label}: has {status.st_size} bytes; at most {limit} are read")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{label}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelError(f"{label}: is not a usable path: {error}") from error


def parse_json(raw: bytes, label: str, error: type[ModelError] = ModelError) -> dict[str, Any]:
    """The object in `raw`.

    Args:
        raw: UTF-8.
        label: what stands in front of errors.
        error: what is raised.

    Raises:
        ModelError: of the type `error`; it is empty, not JSON, not an object, or has a name twice or too many values.
    """
    if not raw.strip():
        raise error(f"{label}: is empty")
    n_values = sum(raw.count(mark) for mark in b"[{,")
    if n_values > MAX_JSON_VALUES:
        raise error(f"{label}: has about {n_values} values; at most {MAX_JSON_VALUES} are read")

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise error(f"{label}: {quote(twice)} stands twice in one object")
        return found

    def no_number(text: str) -> Any:
        raise error(f"{label}: {text} is no number in JSON")

    try:
        value = json.loads(raw.decode(), object_pairs_hook=object_of, parse_constant=no_number)
    except RecursionError:
        raise error(f"{label}: is nested too deeply") from None
    except ValueError as fault:  # not UTF-8, not JSON, or an integer of too many digits
        raise error(f"{label}: is not JSON: {str(fault)[:120]}") from fault
    if not isinstance(value, dict):
        raise error(f"{label}: holds no JSON object")
    return value
