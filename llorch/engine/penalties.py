"""What makes recent tokens less likely before candidates are cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from llorch.engine.params import SamplingParams

_SMALLEST = np.finfo(np.float32).smallest_subnormal
"""A penalty below it counts as this one: 0 would make NaN of a logit of 0."""
_LARGEST = np.finfo(np.float32).max


def apply_penalties(logits: NDArray[np.float32], recent_ids: Collection[int], params: SamplingParams) -> None:
    """Make recent tokens less likely, in place.

    A positive logit is divided by the repetition penalty and a negative one multiplied, since division alone
    would make negative ones likelier. Source: `llama_sampler_penalties_apply`; what overflows there becomes the largest
    float32 here.

    Args:
        logits: float32 (n_vocab,), changed.
        recent_ids: the latest tokens; one that occurs several times is listed as often.
        params: its `repetition_penalty`, a factor > 0; `presence_penalty`, subtracted once from each of them; and
            `frequency_penalty`, subtracted as often as the token occurs.
    """
    if not recent_ids:
        return
    counted = Counter(recent_ids)
    token_ids = np.fromiter(counted.keys(), np.int32, len(counted))
    counts = np.fromiter(counted.values(), np.float32, len(counted))
    before = logits[token_ids]
    factor = max(np.float32(params.repetition_penalty), _SMALLEST)
    values = np.where(before <= 0, before * factor, before / factor)
    values -= counts * np.float32(params.frequency_penalty) + np.float32(params.presence_penalty)
    has_overflowed = np.isinf(values) & np.isfinite(before)
    if has_overflowed.any():
        values[has_overflowed] = np.copysign(_LARGEST, values[has_overflowed])
    logits[token_ids] = values
