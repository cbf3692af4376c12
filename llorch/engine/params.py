"""What a request may say about how its tokens are chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from llorch.errors import FieldError, RequestError
from llorch.settings import Settings

MAX_SEED = 2**64 - 1
GREEDY_BELOW = 1e-6
"""Below this temperature chance could only decide among equal logits, and float32 would overflow."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling parameters of one request; the defaults are llama.cpp's.

    Attributes:
        temperature: 0..2; 0 takes the most probable token.
        top_k: keep the `top_k` most probable tokens; 0 keeps all.
        top_p: keep the smallest set of tokens whose probabilities reach `top_p`; 1 keeps all.
        min_p: drop tokens less probable than `min_p` times the most probable one; 0 drops none.
        repetition_penalty: >0..2; divides positive and multiplies negative logits of recent tokens; 1 is off.
        presence_penalty: -2..2; subtracted once from the logit of a recent token.
        frequency_penalty: -2..2; subtracted as often as the token occurred recently.
        penalty_last_n: how many of the latest tokens, the prompt's too, are "recent"; -1 means all, 0 none.
        logit_bias: added to the logits, by token id; ``-inf`` forbids a token.
        seed: u64 that decides every draw; None means that one is generated (and reported).

    Raises:
        RequestError: on construction, with every value out of range.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_last_n: int = 64
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        faults = [
            FieldError(name, constraint, f"{name} must satisfy {constraint}")
            for name, constraint, is_good in self._rules()
            if not is_good
        ]
        if faults:
            raise RequestError(faults)

    @classmethod
    def from_settings(cls, settings: Settings, *, seed: int | None = None) -> SamplingParams:
        """The defaults of this installation."""
        return cls(
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            min_p=settings.min_p,
            repetition_penalty=settings.repetition_penalty,
            presence_penalty=settings.presence_penalty,
            frequency_penalty=settings.frequency_penalty,
            penalty_last_n=settings.penalty_last_n,
            seed=seed,
        )

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken, without chance."""
        return self.temperature < GREEDY_BELOW

    @property
    def has_penalties(self) -> bool:
        """Whether recent tokens change the logits.

        Source: llama.cpp `llama_sampler_penalties::is_disabled`.
        """
        return self.penalty_last_n != 0 and (
            self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0
        )

    def _rules(self) -> list[tuple[str, str, bool]]:
        """(field, constraint, whether it holds); comparisons with NaN are false."""
        seed = self.seed
        return [
            (
                "temperature",
                "0 <= temperature <= 2",
                _is_number(self.temperature) and 0 <= self.temperature <= 2,
            ),
            ("top_k", "top_k >= 0", _is_integer(self.top_k) and self.top_k >= 0),
            ("top_p", "0 <= top_p <= 1", _is_number(self.top_p) and 0 <= self.top_p <= 1),
            ("min_p", "0 <= min_p <= 1", _is_number(self.min_p) and 0 <= self.min_p <= 1),
            (
                "repetition_penalty",
                "0 < repetition_penalty <= 2",
                _is_number(self.repetition_penalty) and 0 < self.repetition_penalty <= 2,
            ),
            (
                "presence_penalty",
                "-2 <= presence_penalty <= 2",
                _is_number(self.presence_penalty) and -2 <= self.presence_penalty <= 2,
            ),
            (
                "frequency_penalty",
                "-2 <= frequency_penalty <= 2",
                _is_number(self.frequency_penalty) and -2 <= self.frequency_penalty <= 2,
            ),
            (
                "penalty_last_n",
                "penalty_last_n >= -1",
                _is_integer(self.penalty_last_n) and self.penalty_last_n >= -1,
            ),
            (
                "logit_bias",
                "token ids >= 0, each with a bias of -100..100 or -inf",
                _is_bias(self.logit_bias),
            ),
            ("seed", "0 <= seed < 2**64", seed is None or (_is_integer(seed) and 0 <= seed <= MAX_SEED)),
        ]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_bias(bias: Mapping[int, float]) -> bool:
    return isinstance(bias, Mapping) and all(
        _is_integer(token_id)
        and token_id >= 0
        and (value == -math.inf or (_is_number(value) and -100 <= value <= 100))
        for token_id, value in bias.items()
    )
