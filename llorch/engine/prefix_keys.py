"""Keys of KV blocks: a key stands for all tokens up to the end of its block, and for whose they are.

Keys and values of a position depend on every token before it; so blocks with equal keys hold equal bits. A key is a
hash of 256 bits, for which nobody can find two texts: blocks are found by it without comparing tokens.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

KEY_BYTES = 32


def first_key(owner: str) -> bytes:
    """What the keys of an owner's texts begin with; it does not tell the owner's name."""
    return hashlib.blake2b(
        owner.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES, person=b"llorch-owner"
    ).digest()


def next_key(before: bytes, token_ids: Sequence[int]) -> bytes:
    """The key of a block.

    Args:
        before: key of the block before it in the text, or `first_key`.
        token_ids: its tokens.
    """
    return hashlib.blake2b(
        before + array("q", token_ids).tobytes(), digest_size=KEY_BYTES, person=b"llorch-block"
    ).digest()
