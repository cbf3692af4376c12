"""Prompt-lookup speculation: text that repeats itself is guessed, and computed ahead.

What followed the last tokens when they occurred before is likely to follow them again. Such a draft is computed in the
same step as the token before it, as further rows; the sampler then goes through the rows one by one and stops where it
chooses another token. So a draft never changes an answer, only how many steps it takes.

Every token that a sequence gets shows whether its guess was right, computed ahead or not; how often it was decides how
far ahead it pays to compute.

Source: Saxena 2023, "Prompt Lookup Decoding" (https://github.com/apoorvumang/prompt-lookup-decoding), for the idea.
"""

from __future__ import annotations

import numpy as np

_MATCH_SIZES = (4, 3)
"""How many of the last tokens must have occurred before; the longest is tried first."""

_MEMORY = 0.9
"""Weight of a guess against that of the next one."""

_FIRST_CHANCE = 0.3
"""Before anything is known, one token is tried."""

_TOKEN_BYTES = 4


class NgramDrafter:
    """Guesses the next tokens of one sequence, and learns how good its guesses are."""

    def __init__(self, token_ids: list[int]) -> None:
        """Set up behind a prompt of `token_ids`."""
        self._bytes = bytearray(np.array(token_ids, "<u4").tobytes())
        self._source: int | None = None
        self._right, self._guesses = _FIRST_CHANCE, 1.0

    @property
    def chance(self) -> float:
        """The share of guesses that are right, the latest counting most."""
        return self._right / self._guesses

    def append(self, token_id: int) -> None:
        """Go on behind a token that was chosen."""
        if self._source is not None:
            is_right = self._token(self._source) == token_id
            self._right = self._right * _MEMORY + is_right
            self._guesses = self._guesses * _MEMORY + 1
            self._source = self._source + 1 if is_right else None
        self._bytes += token_id.to_bytes(_TOKEN_BYTES, "little")
        if self._source is None:
            self._source = self._find()

    def propose(self, price: float, most: int) -> tuple[int, ...]:
        """What probably comes next.

        Args:
            price: a token must be right with this probability to be worth its row.
            most: most tokens.
        """
        if self._source is None:
            return ()
        n, chance = 0, self.chance
        while n < most and chance >= price:
            n, chance = n + 1, chance * self.chance
        period = len(self._bytes) // _TOKEN_BYTES - self._source
        return tuple(self._token(self._source + i % period) for i in range(n))

    def _token(self, i: int) -> int:
        return int.from_bytes(self._bytes[_TOKEN_BYTES * i : _TOKEN_BYTES * (i + 1)], "little")

    def _find(self) -> int | None:
        """Index of the token behind the latest earlier occurrence of the last ones."""
        last = len(self._bytes) - _TOKEN_BYTES
        for size in _MATCH_SIZES:
            if last < _TOKEN_BYTES * size:
                continue
            pattern = self._bytes[-_TOKEN_BYTES * size :]
            end = last
            while (begin := self._bytes.rfind(pattern, 0, end)) >= 0:
                if begin % _TOKEN_BYTES == 0:
                    return begin // _TOKEN_BYTES + size
                end = begin + len(pattern) - 1
        return None
