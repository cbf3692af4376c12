"""What the real models write after "Once upon a time" when each token is the most probable one."""

from __future__ import annotations

from pathlib import Path

_TEXTS = {
    "stories260K": ", there was a little girl named Lily.",
    "SmolLM2-135M": ", the city of Nova Haven was a thriving",
}


def greedy_text(model: Path) -> str:
    """The first words of the model at this path."""
    return next(text for name, text in _TEXTS.items() if model.name.startswith(name))


def greedy_stop(model: Path) -> tuple[str, str]:
    """A stop string inside the first words, and the text before it."""
    before, _, last = greedy_text(model).rpartition(" ")
    return " " + last, before
