"""What llama.cpp's converter says of a model in general: its name and how large it is.

Source: `gguf.metadata` and `gguf.utility` of llama.cpp's `gguf` package.
"""

from __future__ import annotations

import re

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"))
_KEPT = re.compile(r"v\d+(\.\d+)*|\d.*")
"""Words that get no capital: versions and sizes."""


def size_label(n_parameters: int) -> str:
    """The number of parameters in two digits or more, e.g. ``"1.1B"``."""
    unit, letter = next(((unit, letter) for unit, letter in _UNITS if n_parameters > unit), (1e3, "K"))
    scaled = n_parameters / unit
    n_digits = len(str(round(scaled)).lstrip("0"))
    return f"{scaled:.{max(2 - n_digits, 0)}f}{letter}"


def title_of(name: str) -> str:
    """The name of a directory or a repository as words, without the owner: ``"me/tiny-llama-v2"`` is Tiny Llama v2."""
    words = name.rsplit("/", 1)[-1].replace("-", " ").split()
    return " ".join(word.title() if word.islower() and not _KEPT.fullmatch(word) else word for word in words)
