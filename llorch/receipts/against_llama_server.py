"""A receipt against llama-server: how probable does it hold each token, after exactly the tokens before it?"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llorch.receipts.llama_server import LlamaServer
from llorch.receipts.replay import Replay
from llorch.receipts.schema import Receipt

LOGPROB_TOLERANCE = 0.5
"""Most that the logarithm of a token's probability may differ, as two engines add floats in different orders.

On SmolLM2-135M (Q4_1) up to 0.19 was measured. Another model, position or attention differs by several units.
"""
N_TOP = 10


def against_llama_server(
    binary: Path, model: Path, *, n_threads: int = 0, progress: Callable[[str, int, int], None]
) -> Callable[[Receipt, Replay], tuple[bool, str, dict[str, Any]]]:
    """What compares a receipt with a llama-server that is started for it.

    Args:
        binary: llama-server.
        model: the file that it loads.
        n_threads: threads that it computes with; 0: as many as it likes.
        progress: told which token is judged.
    """

    def compare(receipt: Receipt, replayed: Replay) -> tuple[bool, str, dict[str, Any]]:
        prompt, chosen = receipt.prompt.token_ids, receipt.chosen_ids
        n_ctx = len(prompt) + len(chosen) + 1
        kv_type = receipt.arithmetic.kv_type
        comparison = Comparison(replayed)
        with LlamaServer(binary, model, n_ctx=n_ctx, kv_type=kv_type, n_threads=n_threads) as server:
            build = server.build()
            for i, token_id in enumerate(chosen):
                comparison.add(*server.judge(prompt + chosen[:i], token_id, N_TOP))
                progress("llama-server", i + 1, len(chosen))
        return comparison.holds, comparison.note, {"build": build, **comparison.figures()}

    return compare


class Comparison:
    """Log probabilities of two engines, token by token, before bias, penalties and sampling."""

    def __init__(self, replayed: Replay) -> None:
        self._replayed = replayed
        self._differences: list[float] = []
        self._gaps: list[float] = []
        self._n_same_top = 0

    def add(self, logprob: float, top: list[tuple[int, float]]) -> None:
        """Take what llama-server says of the next token, and of the most probable ones there."""
        ours = self._replayed.logprobs[len(self._differences)]
        self._differences.append(abs(ours.logprob - logprob))
        our_top = ours.top[0][0]
        self._n_same_top += our_top == top[0][0]
        self._gaps.append(top[0][1] - dict(top).get(our_top, -math.inf))

    @property
    def holds(self) -> bool:
        """Whether every token is as probable to both, and llorch's most probable one is llama-server's but for ties."""
        return all(value <= LOGPROB_TOLERANCE for value in (*self._differences, *self._gaps))

    @property
    def note(self) -> str:
        """What does not agree."""
        worst = max(self._differences)
        return (
            f"log probabilities differ by up to {worst:.3g} (token {self._differences.index(worst)}), and llorch's "
            f"most probable token is up to {max(self._gaps):.3g} behind llama-server's; "
            f"{LOGPROB_TOLERANCE:g} is allowed"
        )

    def figures(self) -> dict[str, Any]:
        """Counts and differences; None for what is no finite number."""
        figures = {
            "largest_logprob_difference": max(self._differences),
            "mean_logprob_difference": sum(self._differences) / len(self._differences),
            "largest_gap_of_most_probable": max(self._gaps),
        }
        return {
            "n_tokens": len(self._differences),
            "n_same_most_probable": self._n_same_top,
            **{name: value if math.isfinite(value) else None for name, value in figures.items()},
            "tolerance": LOGPROB_TOLERANCE,
        }
