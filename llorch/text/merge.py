"""The merge loop of SentencePiece-BPE and byte-level BPE: the pair of the lowest rank first, then the leftmost."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

CACHED_WORDS = 32768
CACHED_WORD_CHARS = 32
"""What encoders remember of the words they merged: so many, none longer."""


def merged(text: str, ranks: Mapping[str, int], separator: str) -> Iterator[str]:
    """The symbols that are left of `text` when no pair of neighbours has a rank; O(n log n).

    A symbol is identified by the index of its first character. The heap holds ``rank * n + left`` for the pair
    that begins at `left`: one integer that orders by rank, then from left to right. An entry is stale
    if that pair has another rank now.

    Args:
        text: its characters are the first symbols.
        ranks: rank of a pair under its two symbols with `separator` between them.
        separator: empty where a pair is known by its joined text alone.
    """
    n = len(text)
    rank_of = ranks.get
    after = [*range(1, n + 1), n]  # first character after the symbol; only valid where a symbol begins
    before = [*range(-1, n)]  # where the symbol on the left begins
    pair_ranks = [rank_of(f"{text[i]}{separator}{text[i + 1]}", -1) for i in range(n - 1)]
    pair_ranks.append(-1)
    heap = [rank * n + left for left, rank in enumerate(pair_ranks) if rank >= 0]
    heapq.heapify(heap)
    while heap:
        rank, left = divmod(heapq.heappop(heap), n)
        if pair_ranks[left] != rank:
            continue
        right = after[left]
        end = after[right]
        after[left] = end
        pair_ranks[right] = pair_ranks[left] = -1
        symbol = text[left:end]
        if end < n:
            before[end] = left
            rank = pair_ranks[left] = rank_of(f"{symbol}{separator}{text[end : after[end]]}", -1)
            if rank >= 0:
                heapq.heappush(heap, rank * n + left)
        previous = before[left]
        if previous >= 0:
            rank = pair_ranks[previous] = rank_of(f"{text[previous:left]}{separator}{symbol}", -1)
            if rank >= 0:
                heapq.heappush(heap, rank * n + previous)
    begin = 0
    while begin < n:
        yield text[begin : after[begin]]
        begin = after[begin]
