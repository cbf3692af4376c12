"""What was found of a receipt: checks, each true, false or None where it was not made, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Verdict: TypeAlias = Literal["verified", "not verified", "not reproducible"]

CHECKS = (
    "receipt",
    "prompt",
    "settings",
    "counts",
    "model",
    "model_description",
    "arithmetic",
    "logits",
    "token_ids",
    "text",
    "finish",
    "circumstances",
    "llama_server",
)
"""In the order in which they are made. `circumstances` cannot be checked by anybody."""
_HERE = ("model", "arithmetic")
"""Checks that say whether the receipt can be computed again here."""
_NEEDED = ("logits", "token_ids")
"""Checks without which nothing is verified."""


@dataclass(slots=True)
class Outcome:
    """What was found.

    Attributes:
        checks: by name; None: not made.
        notes: what is wrong, and what could not be checked, a sentence each.
        first_difference: index of the first token that came out otherwise, or from other logits.
        is_compared: whether a comparison with a llama-server was asked for.
        llama_server: its figures, if there was one.
    """

    checks: dict[str, bool | None] = field(default_factory=lambda: dict.fromkeys(CHECKS))
    notes: list[str] = field(default_factory=list)
    first_difference: int | None = None
    is_compared: bool = False
    llama_server: dict[str, Any] | None = None

    def check(self, name: str, holds: bool, note: str) -> None:
        """Note a check, and `note` if it does not hold."""
        self.checks[name] = holds
        if not holds:
            self.notes.append(f"{name}: {note}")

    def leave_open(self, name: str, note: str) -> None:
        """Note why a check is not made."""
        self.notes.append(f"{name}: not checked: {note}")

    def has_fault(self) -> bool:
        """Whether a check does not hold."""
        return any(holds is False for holds in self.checks.values())

    @property
    def verdict(self) -> Verdict:
        """``"verified"`` only if all that was asked for was computed again and nothing differs."""
        wrong = [name for name, holds in self.checks.items() if holds is False]
        if any(name not in _HERE for name in wrong):
            return "not verified"
        needed = (*_NEEDED, "llama_server") if self.is_compared else _NEEDED
        if wrong or not all(self.checks[name] for name in needed):
            return "not reproducible"
        return "verified"
