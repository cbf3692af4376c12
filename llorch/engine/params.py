"""How the tokens of a request are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llorch.errors import FieldError, RequestError
from llorch.fields.table import FIELDS, SETTINGS
from llorch.settings import Settings

GREEDY_BELOW = 1e-6
"""Below this temperature chance could only decide among equal logits, and float32 would overflow."""


def _default(name: str) -> Any:
    return FIELDS[name].default


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling parameters of one request; ranges and defaults are those of `llorch.fields.table`.

    Values become plain Python ones: NumPy's numbers are taken, and reported as Python's.

    Attributes:
        temperature: 0..2; 0 takes the most probable token.
        top_k: keep the `top_k` most probable tokens; 0 keeps all.
        top_p: keep the smallest set of tokens whose probabilities reach `top_p`; 1 keeps all.
        min_p: drop tokens less probable than `min_p` times the most probable one; 0 drops none.
        repetition_penalty: >0..2; divides positive and multiplies negative logits of recent tokens; 1 is off.
        presence_penalty: -2..2; subtracted once from the logit of a recent token.
        frequency_penalty: -2..2; subtracted as often as the token occurred recently.
        penalty_last_n: how many of the latest tokens are "recent"; -1 means all, 0 none.
        logit_bias: added to the logits, by token id; ``-inf`` forbids a token.
        seed: u64 that decides every draw; None means that one is generated (and reported).
        penalize_prompt: whether tokens of the prompt are "recent" too, as in llama-server, or only generated ones, as
            with OpenAI. No field of requests: each interface has its own rule.

    Raises:
        RequestError: on construction, with every value out of range.
    """

    temperature: float = _default("temperature")
    top_k: int = _default("top_k")
    top_p: float = _default("top_p")
    min_p: float = _default("min_p")
    repetition_penalty: float = _default("repetition_penalty")
    presence_penalty: float = _default("presence_penalty")
    frequency_penalty: float = _default("frequency_penalty")
    penalty_last_n: int = _default("penalty_last_n")
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    penalize_prompt: bool = True

    def __post_init__(self) -> None:
        faults: list[FieldError] = []
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name in FIELDS and (name != "seed" or value is not None):
                faults += FIELDS[name].python_faults(value)
                object.__setattr__(self, name, FIELDS[name].plain(value))
        penalize_prompt: object = self.penalize_prompt
        if not isinstance(penalize_prompt, bool):
            got = f"a value of type {type(penalize_prompt).__name__}"
            message = f"penalize_prompt: expected true or false; got {got}"
            faults.append(FieldError("penalize_prompt", "true or false", message))
        if faults:
            raise RequestError(faults)

    @classmethod
    def from_settings(cls, settings: Settings, *, seed: int | None = None) -> SamplingParams:
        """The defaults of this installation."""
        given = {name: getattr(settings, name) for name in cls.__dataclass_fields__ if name in SETTINGS}
        return cls(**given, seed=seed)

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
