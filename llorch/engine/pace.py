"""How large a step may be: prompts are read in pieces, so that nobody waits long.

Other streams, aborts and new requests wait while a step runs. While nobody's answer is being generated, a step takes
about `TARGET_S`: a small model reads a whole batch in that time, a 7B model less. Beside running answers, only so many
rows of prompts are added that the step takes at most `STRETCH` times as long as without them, or `SMOOTH_S` where that
is more: no stream falters because somebody else has sent a long prompt. Only where many have begun together, short
prompts are read first, in steps of `TARGET_S`. How a prompt is cut never changes a result.

A row costs the more, the further behind in its prompt it stands (`RowCost`).
"""

from __future__ import annotations

from llorch.model.row_cost import RowCost

TARGET_S = 0.5
"""Longest time a step should take while no answer is being generated, in seconds."""

STRETCH = 1.7
"""A step with rows of prompts, compared with one without. Tokens must not come later than twice as late as usual, and
no step takes just the time that was foreseen."""

SMOOTH_S = 0.025
"""A step with rows of prompts may always take so long, in seconds: nobody sees that 40 tokens come in a second and not
200. A small model reads a long prompt in two thirds of the time then: 1.7 times its steps would leave little room."""

SMALLEST = 64
"""Rows below which a step is not cut while no answer is being generated: every pass reads all weights once."""

FEWEST = 4
"""Rows of prompts in every step, whatever they cost: prompts must be read in the end."""

PROBE_EVERY = 24
"""After so many steps with rows of prompts, one goes without, to see again what that takes."""

SHORT = 4
"""A prompt that takes at most so many steps of `TARGET_S` is short: nobody calls that a stall."""

_NEW_SHARE = 0.5

_OUTLIER = 2.0
"""A step that takes more times what was foreseen counts as no longer than that: the machine has paused. Else the next
steps would hold next to nothing of prompts, or far too much."""

_GROWTH = 2
"""A step beside answers holds at most so many times the rows that one has had before: the first rows may seem to cost
nothing, since a step waits for its weights meanwhile."""


class Pace:
    """Learns from steps what they cost, and proposes the next one's limit."""

    def __init__(self, n_batch: int, cost: RowCost | None = None) -> None:
        """Know nothing yet.

        Args:
            n_batch: most rows of a step.
            cost: of the model's rows; without it, all cost the same.
        """
        self._n_batch = n_batch
        self._cost = cost or RowCost()
        self._per_s: float | None = None  # what large steps without answers read, in rows at a prompt's begin
        self._decode_s: dict[int, float] = {}  # duration of steps without prompts, by their rows
        self._row_s: float | None = None  # what such a row adds to a step with answers
        self._n_mixed = 0
        self._n_tried = FEWEST // _GROWTH

    def n_rows(self, n_decoding: int = 0, *, n_burst: int = 0, n_before: int = 0) -> int:
        """Most rows of the next step; cautious until steps have been timed.

        Args:
            n_decoding: rows that are no prompt's.
            n_burst: tokens of the prompt to read, if it came before all of those answers began; else 0.
            n_before: positions of the prompt to read that have been computed.
        """
        known = 0 if self._per_s is None else self._per_s * TARGET_S
        n_full = max(SMALLEST, self._cost.rows(known, n_before))
        if n_decoding and not 0 < n_burst <= SHORT * max(SMALLEST, known):
            return min(self._n_batch, n_decoding + self._n_beside(n_decoding, n_before))
        return min(self._n_batch, n_decoding + n_full)

    def record(self, n_decoding: int, n_prompt: int, duration_s: float, *, n_looks: int = 0) -> None:
        """Learn from a step.

        Args:
            n_decoding: rows that were no prompt's: of answers, and drafts of them.
            n_prompt: rows of prompts.
            duration_s: what it took.
            n_looks: positions that those look at, all together.
        """
        if duration_s <= 0:
            return
        if not n_prompt:
            self._n_mixed = 0
            before = self._decode_s.get(n_decoding)
            self._decode_s[n_decoding] = _mean(before, min(duration_s, _OUTLIER * (before or duration_s)))
            return
        price = self._cost.price(n_prompt, n_looks)
        if n_decoding:
            self._n_mixed += 1
            self._n_tried = max(self._n_tried, n_prompt)
            self._learn_row(n_decoding, price, duration_s)
        elif n_prompt >= min(SMALLEST, self._n_batch):  # smaller ones wait for the weights, and say nothing
            self._per_s = _mean(self._per_s, price / duration_s)

    def _n_beside(self, n_decoding: int, n_before: int) -> int:
        """Rows of prompts beside `n_decoding` others; 0 to see what those take alone."""
        alone_s = self._alone_s(n_decoding)
        if alone_s is None or self._n_mixed >= PROBE_EVERY:
            return 0
        row_s = self._row_s
        if row_s is None:
            if self._per_s is None:
                return FEWEST
            row_s = 1 / self._per_s
        price = (max(STRETCH * alone_s, SMOOTH_S) - alone_s) / row_s
        return max(FEWEST, min(_GROWTH * self._n_tried, self._cost.rows(price, n_before)))

    def _learn_row(self, n_decoding: int, price: float, duration_s: float) -> None:
        alone_s = self._alone_s(n_decoding)
        if alone_s is None:
            return
        if self._row_s is not None:
            duration_s = min(duration_s, _OUTLIER * (alone_s + price * self._row_s))
        row_s = max(duration_s - alone_s, 0.0) / price
        if self._row_s is not None:
            # Rows may cost nothing up to a tile's end, and more behind it.
            row_s = max(row_s, 0.75 * self._row_s)
        self._row_s = max(_mean(self._row_s, row_s), 1e-9)

    def _alone_s(self, n_decoding: int) -> float | None:
        """What a step of so many rows without prompts takes; if that is not known, of fewer, or else of more."""
        if not self._decode_s:
            return None
        fewer = [n for n in self._decode_s if n <= n_decoding]
        return self._decode_s[max(fewer) if fewer else min(self._decode_s)]


def _mean(before: float | None, new: float) -> float:
    return new if before is None else before + _NEW_SHARE * (new - before)
