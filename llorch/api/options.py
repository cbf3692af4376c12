"""What Python callers may ask of a generation, by name and type: for type checkers and editors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class Options(TypedDict, total=False):
    """The options of `Model.generate`, which says what they mean; the values are checked when a call is made."""

    max_tokens: int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool
    min_tokens: int
    stop_token_ids: Sequence[int]
    n_logprobs: int | None

    json_schema: Mapping[str, Any] | None
    grammar: str | None
    regex: str | None
    choice: Sequence[str] | None

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    penalty_last_n: int
    logit_bias: Mapping[int, float]
    seed: int | None
    samplers: Sequence[str]
    typical_p: float
    top_n_sigma: float
    xtc_probability: float
    xtc_threshold: float
    dynatemp_range: float
    dynatemp_exponent: float
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: Sequence[str]
    mirostat: int
    mirostat_tau: float
    mirostat_eta: float
    adaptive_target: float
    adaptive_decay: float
