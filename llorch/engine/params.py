"""How the tokens of a request are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llorch.errors import FieldError, RequestError
from llorch.fields.sampling_table import STEPS
from llorch.fields.table import FIELDS, SETTINGS
from llorch.settings import Settings

GREEDY_BELOW = 1e-6
"""Below this temperature chance could only decide among equal logits, and float32 would overflow."""
MAX_XTC_THRESHOLD = 0.5
"""Two tokens cannot be more probable than that."""

_WITHOUT: Mapping[str, Mapping[str, float]] = {
    "penalties": {"penalty_last_n": 0},
    "dry": {"dry_multiplier": 0.0},
    "top_n_sigma": {"top_n_sigma": -1.0},
    "top_k": {"top_k": 0},
    "typical_p": {"typical_p": 1.0},
    "top_p": {"top_p": 1.0},
    "min_p": {"min_p": 0.0},
    "xtc": {"xtc_probability": 0.0},
    "temperature": {"temperature": 1.0, "dynatemp_range": 0.0},
}
"""What switches off each step."""


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
        samplers: the steps between logits and a draw, in their order.
        typical_p: keep the tokens whose surprise is nearest to the expected one, up to this probability; 1 keeps all.
        top_n_sigma: drop logits more than so many standard deviations below the largest; 0 and below drop none.
        xtc_probability: how often all but the least probable of the tokens that reach `xtc_threshold` are dropped.
        xtc_threshold: a probability; above 0.5 nothing is dropped.
        dynatemp_range: 0..2; the temperature lies so far around `temperature` at most, as the entropy says.
        dynatemp_exponent: power of the entropy in that.
        dry_multiplier: 0..100; subtracted from the logit of a token that would go on repeating, times a power of
            `dry_base`; 0 is off.
        dry_base: 1..100.
        dry_allowed_length: tokens of a repeat from which on it counts.
        dry_penalty_last_n: how many of the latest tokens, the prompt's always among them, are searched; -1: all.
        dry_sequence_breakers: no repeat counts across these strings.
        mirostat: version, 1 or 2, of what chooses in place of all steps but the temperature; 0 is off.
        mirostat_tau: surprise it aims at, in bits.
        mirostat_eta: its learning rate.
        adaptive_target: -1..1; probability near which adaptive-p chooses, after the other steps; negative is off.
        adaptive_decay: 0..0.99; weight of earlier tokens in its mean.

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
    samplers: tuple[str, ...] = _default("samplers")
    typical_p: float = _default("typical_p")
    top_n_sigma: float = _default("top_n_sigma")
    xtc_probability: float = _default("xtc_probability")
    xtc_threshold: float = _default("xtc_threshold")
    dynatemp_range: float = _default("dynatemp_range")
    dynatemp_exponent: float = _default("dynatemp_exponent")
    dry_multiplier: float = _default("dry_multiplier")
    dry_base: float = _default("dry_base")
    dry_allowed_length: int = _default("dry_allowed_length")
    dry_penalty_last_n: int = _default("dry_penalty_last_n")
    dry_sequence_breakers: tuple[str, ...] = _default("dry_sequence_breakers")
    mirostat: int = _default("mirostat")
    mirostat_tau: float = _default("mirostat_tau")
    mirostat_eta: float = _default("mirostat_eta")
    adaptive_target: float = _default("adaptive_target")
    adaptive_decay: float = _default("adaptive_decay")

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

    def in_effect(self) -> SamplingParams:
        """The same choice with everything that has no part in it switched off; `samplers` only gives another order.

        Source of what Mirostat leaves: llama.cpp `common_sampler_init`.
        """
        steps = ("temperature",) if self.mirostat else self.samplers
        off: dict[str, Any] = {"dynatemp_range": 0.0, "adaptive_target": -1.0} if self.mirostat else {}
        for step, values in _WITHOUT.items():
            off |= {} if step in steps else values
        is_usual = steps == tuple(step for step in STEPS if step in steps)
        return replace(self, **off, samplers=STEPS if is_usual else steps)

    @property
    def is_greedy(self) -> bool:
        """Whether the temperature leaves the most probable token alone."""
        return self.temperature < GREEDY_BELOW and self.dynatemp_range == 0

    @property
    def has_penalties(self) -> bool:
        """Whether recent tokens change the logits.

        Source: llama.cpp `llama_sampler_penalties::is_disabled`.
        """
        return self.penalty_last_n != 0 and (
            self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0
        )

    @property
    def has_dry(self) -> bool:
        """Whether repeats change the logits. Source: llama.cpp `llama_sampler_init_dry`."""
        return self.dry_multiplier != 0 and self.dry_penalty_last_n != 0

    @property
    def is_usual(self) -> bool:
        """Whether penalties, DRY, top-k, top-p, min-p and temperature, in this order, are all that has an effect."""
        return (
            self.samplers == STEPS
            and self.typical_p >= 1
            and self.top_n_sigma <= 0
            and (self.xtc_probability <= 0 or self.xtc_threshold > MAX_XTC_THRESHOLD)
            and self.dynatemp_range == 0
            and not self.mirostat
            and self.adaptive_target < 0
        )
