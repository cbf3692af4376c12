"""Damaged copies of a file, drawn from a seed: flipped bits, hostile numbers, cuts, repeats and swaps."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

HOSTILE_U32 = [0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 30, 31, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
HOSTILE_U64 = [0, 1, 31, 32, 33, 2**16, 2**31, 2**32, 2**61, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1]

Mutation = Callable[[bytearray, np.random.Generator, int], None]


def flip_bit(content: bytearray, rng: np.random.Generator, reach: int) -> None:
    content[rng.integers(reach)] ^= 1 << int(rng.integers(8))


def set_byte(content: bytearray, rng: np.random.Generator, reach: int) -> None:
    content[rng.integers(reach)] = int(rng.integers(256))


def set_u32(content: bytearray, rng: np.random.Generator, reach: int) -> None:
    at = int(rng.integers(max(1, reach - 4)))
    content[at : at + 4] = struct.pack("<I", HOSTILE_U32[rng.integers(len(HOSTILE_U32))])


def set_u64(content: bytearray, rng: np.random.Generator, reach: int) -> None:
    at = int(rng.integers(max(1, reach - 8)))
    content[at : at + 8] = struct.pack("<Q", HOSTILE_U64[rng.integers(len(HOSTILE_U64))])


def cut_out(content: bytearray, rng: np.random.Generator, reach: int) -> None:
    at = int(rng.integers(reach))
    del content[at : at + int(rng.integers(1, 64))]


def repeat(content: bytearray, rng: np.random.Generator, reach: int) -> None:
    at = int(rng.integers(reach))
    content[at:at] = content[at : at + int(rng.integers(1, 64))]


def swap(content: bytearray, rng: np.random.Generator, reach: int) -> None:
    a, b = (int(at) for at in rng.integers(reach, size=2))
    n = min(int(rng.integers(1, 32)), len(content) - max(a, b))
    content[a : a + n], content[b : b + n] = content[b : b + n], content[a : a + n]


def cut_off(content: bytearray, rng: np.random.Generator, reach: int) -> None:
    del content[int(rng.integers(len(content))) :]


MUTATIONS: list[Mutation] = [flip_bit, set_byte, set_u32, set_u64, cut_out, repeat, swap, cut_off]


def mutants(
    original: bytes, n: int, *, seed: int, reach: int, kinds: Sequence[Mutation] | None = None
) -> Iterator[bytes]:
    """`n` damaged copies of `original`, each with one to three mutations in its first `reach` bytes."""
    rng = np.random.default_rng(seed)
    kinds = kinds or MUTATIONS
    for _ in range(n):
        content = bytearray(original)
        for _ in range(int(rng.integers(1, 4))):
            if len(content) > 64:
                kinds[int(rng.integers(len(kinds)))](content, rng, min(reach, len(content)))
        yield bytes(content)


def overwrite(path: Path, content: bytes) -> None:
    """Write `content` into an existing or new file, in place: ext4 flushes a file that is emptied first to disk."""
    path.touch()
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
