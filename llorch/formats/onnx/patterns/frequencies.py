"""RoPE's frequencies in GGUF's words: a base, and divisors where they are not its plain powers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llorch.errors import OnnxError
from llorch.formats.onnx.symbolic.values import Numbers

_EQUAL = 2e-6
"""Relative difference of frequencies that float32 explains."""
_NEARLY_EQUAL = 4e-3
"""The same of frequencies that were rounded to half precision, bfloat16 at worst."""
_DEFAULT_BASE = 10000.0

Floats = NDArray[np.float64]


def sharpened(frequencies: Floats, tables: Sequence[tuple[Numbers, Numbers]], magnitude: float) -> Floats:
    """Frequencies as tables over many positions say them, more exactly than the first angles do.

    Args:
        frequencies: float64 (pairs,), as the first angles say them.
        tables: cosines and sines, (positions, pairs).
        magnitude: what the tables are multiplied with.

    Raises:
        OnnxError: a table is not one of cosines and sines at angles that grow with the position.
    """
    for cos, sin in tables:
        table_cos, table_sin = (np.asarray(table, np.float64) / magnitude for table in (cos, sin))
        n = len(table_cos)
        refined, position = frequencies.copy(), 1
        while position < n:
            measured = np.arctan2(table_sin[position], table_cos[position])
            turns = np.round((position * refined - measured) / (2 * np.pi))
            refined = (measured + 2 * np.pi * turns) / position
            position *= 2
        expected = np.arange(n)[:, None] * refined
        worst = max(
            float(np.abs(np.cos(expected) - table_cos).max()),
            float(np.abs(np.sin(expected) - table_sin).max()),
        )
        if not worst < 5e-3:
            raise OnnxError(
                "the table of RoPE's cosines and sines is not one of angles that grow evenly with the position: "
                f"it is off by up to {worst:.2g}"
            )
        frequencies = refined
    return frequencies


def rope_keys(frequencies: Floats, error: float = 0.0) -> tuple[dict[str, float], NDArray[np.float32] | None]:
    """Base, factor and divisors that give the frequencies.

    Args:
        frequencies: float64 (pairs,), angles per position, the fastest first.
        error: what they may be off by, where they were read from rounded tables.

    Returns:
        ``llama.rope.*`` numbers, and float32 (pairs,) divisors where the frequencies are not the base's powers.
    """
    powers = np.arange(len(frequencies)) / len(frequencies)
    scale = float(frequencies[0])
    base = _base(frequencies / scale, powers, error / scale)
    keys = {"llama.rope.freq_base": base}
    plain = base**-powers
    if _agree(frequencies, scale * plain, error):
        if not _agree(np.array([scale]), np.array([1.0]), error):
            keys["llama.rope.scaling.factor"] = _rounded(1.0 / scale, 5)
        return keys, None
    return keys, (plain / frequencies).astype(np.float32)


def _base(frequencies: Floats, powers: Floats, error: float) -> float:
    """The base that gives frequencies, the first of them 1, or most nearly does."""
    n = len(frequencies)
    if n == 1:
        return _DEFAULT_BASE
    estimate = float(frequencies[-1] ** (-n / (n - 1)))
    if math.isfinite(estimate) and estimate > 0:
        for digits in range(1, 9):
            if _agree(frequencies, (base := _rounded(estimate, digits)) ** -powers, error):
                return base
        for digits in range(1, 4):
            base = _rounded(estimate, digits)
            if _agree(frequencies, base**-powers, error, _NEARLY_EQUAL):
                return base
    # Scalings for long contexts leave the fastest frequencies alone.
    estimate = float(frequencies[1] ** -n)
    return _rounded(estimate, 4) if math.isfinite(estimate) and estimate > 1 else _DEFAULT_BASE


def _agree(a: Floats, b: Floats, error: float, relative: float = _EQUAL) -> bool:
    return bool((np.abs(a - b) <= relative * np.abs(b) + error).all())


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
