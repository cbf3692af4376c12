"""API keys: several of them, each with the name of whoever uses it.

Settings hold them as one text with a key on each line, `key` or `name: key`. A key without a name is known by a digest.
"""

from __future__ import annotations

import hashlib
import re

MAX_KEYS = 1000
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._@-]{0,63}):[ \t]+(\S.*)")
_DIGEST_ROUNDS = 10_000
"""Milliseconds for each key: somebody who reads a digest in a log shall not find a weak key by trying."""


def split_key(line: str) -> tuple[str | None, str]:
    """The name, if there is one, and the key of a line."""
    named = _NAMED.fullmatch(line)
    return (None, line) if named is None else (named[1], named[2])


def owners_by_key(keys: str) -> dict[bytes, str]:
    """Who uses each key of `keys`, which has one on each line.

    Names stay the same from one start to the next, wherever a key stands.
    """
    owners = {}
    for line in keys.split("\n"):
        name, key = split_key(line)
        owners[key.encode()] = _digest(key) if name is None else name
    return owners


def _digest(key: str) -> str:
    digest = hashlib.pbkdf2_hmac("sha256", key.encode(), b"llorch: owner of an API key", _DIGEST_ROUNDS, 6)
    return f"key-{digest.hex()}"
