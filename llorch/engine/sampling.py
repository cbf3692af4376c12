"""From logits to the next token: small functions, composed in llama.cpp's order.

logit bias, penalties, top-k, top-p, min-p, temperature, draw. The first two write into a copy of the logits
of the whole vocabulary; the others narrow a set of candidates. Among equal logits the smaller token id wins
everywhere, so a result never depends on a sorting algorithm.

Parameters at the ends of their ranges take float32 to its own: a penalty of 1e-45 makes logits overflow, a temperature
of 1e-6 too. Finite logits stay finite or fall to ``-inf``, a probability of 0; they become neither NaN nor ``+inf``.

Source: llama.cpp 0.5.0-dev, `src/llama-sampler.cpp` (function names stand with each step), and the order in
`common/sampling.cpp`. The draw uses another random generator: a seed gives another text than in llama.cpp.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from llorch.engine.compiled_draw import CompiledDraw
from llorch.engine.narrowing import Candidates, draw, narrowed
from llorch.engine.params import SamplingParams
from llorch.engine.token_mask import TokenMask
from llorch.errors import ConstraintError, NumericalError

_SMALLEST = np.finfo(np.float32).smallest_subnormal
"""A penalty below it counts as this one: 0 would make NaN of a logit of 0."""
_LARGEST = np.finfo(np.float32).max


class Sampler:
    """The chain of one sequence: its parameters, its random generator and the tokens it has seen."""

    def __init__(
        self,
        params: SamplingParams,
        seed: int,
        prompt_ids: Iterable[int],
        forbidden_ids: Collection[int] = (),
        mask: TokenMask | None = None,
    ) -> None:
        """Set up the chain.

        Args:
            params: what the request asked for.
            seed: u64; decides every draw.
            prompt_ids: they count as recent tokens if the parameters say so.
            forbidden_ids: tokens never chosen (end-of-generation ones, when those are ignored).
            mask: limits the choice further, from token to token.
        """
        self.params = params
        self._random = np.random.PCG64(seed)
        self._history = list(prompt_ids) if params.has_penalties and params.penalize_prompt else []
        self._mask = mask
        bias = {**params.logit_bias, **dict.fromkeys(forbidden_ids, -np.inf)}
        self._bias_ids = np.array(list(bias), np.int32)
        self._bias = np.array(list(bias.values()), np.float32)
        self._forbidden_ids = frozenset(forbidden_ids)
        is_plain = mask is None and not params.logit_bias and not params.has_penalties
        self._takes_largest = is_plain and params.is_greedy
        self._compiled = None if params.is_greedy else CompiledDraw(params)

    @property
    def must_end(self) -> bool:
        """Whether nothing but the end may follow the tokens chosen so far."""
        return self._mask is not None and self._mask.must_end

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Choose the next token and remember it.

        Args:
            logits: float32 (n_vocab,); afterwards as before.

        Raises:
            NumericalError: the logits hold NaN or +inf, or every token is forbidden.
            ConstraintError: what limits the choice fails, or leaves no token.
        """
        if self._takes_largest:  # mostly it is not forbidden, and nothing has to be copied
            best = int(logits.argmax())
            if best not in self._forbidden_ids and math.isfinite(logits[best]):
                return best
        return self._sample(logits)

    @np.errstate(all="ignore")  # overflow and underflow are meant; NaN is looked for
    def _sample(self, logits: NDArray[np.float32]) -> int:
        """As `sample`. Few logits are changed, for a while: to copy all of them would sweep 200 to 500 KB of cache."""
        recent = self._recent() if self.params.has_penalties else []
        if not recent and not len(self._bias_ids):
            return self._choose(logits)
        if not logits.flags.writeable:
            logits = logits.copy()
        changed = np.array([*self._bias_ids.tolist(), *recent], np.int64)
        before = logits[changed]
        try:
            apply_logit_bias(logits, self._bias_ids, self._bias)
            apply_penalties(
                logits,
                recent,
                repetition=self.params.repetition_penalty,
                presence=self.params.presence_penalty,
                frequency=self.params.frequency_penalty,
            )
            return self._choose(logits)
        finally:
            logits[changed] = before

    def _choose(self, logits: NDArray[np.float32]) -> int:
        """Choose from logits with bias and penalties, and remember the token."""
        if self._mask is not None:
            _best(logits)
            logits = logits.copy()
            self._mask.forbid(logits)
            if logits.max() == -np.inf:
                raise ConstraintError("the constraint on its tokens leaves none to choose")
        token_id = _best(logits) if self._compiled is None else self._draw(self._compiled, logits)
        if self.params.has_penalties:
            self._history.append(token_id)
        if self._mask is not None:
            self._mask.accept(token_id)
        return token_id

    def _recent(self) -> list[int]:
        last_n = self.params.penalty_last_n
        return self._history if last_n < 0 else self._history[-last_n:]

    def _draw(self, compiled: CompiledDraw, logits: NDArray[np.float32]) -> int:
        n = compiled.narrow(logits)
        if n > 0:
            return compiled.pick(n, uniform(self._random))
        _best(logits)
        return draw(narrowed(Candidates.from_logits(logits), self.params), uniform(self._random))


def _best(logits: NDArray[np.float32]) -> int:
    """The token of the largest logit, after a look at all of them.

    Raises:
        NumericalError: one is NaN or +inf, or all are -inf.
    """
    best = int(logits.argmax())  # NaN counts as the maximum
    if logits[best] == -np.inf:
        raise NumericalError("every token is forbidden")
    if not np.isfinite(logits[best]):
        raise NumericalError(f"the largest logit is {logits[best]} (token {best})")
    return best


def apply_logit_bias(
    logits: NDArray[np.float32], token_ids: NDArray[np.int32], bias: NDArray[np.float32]
) -> None:
    """Add each token's bias, in place. Source: `llama_sampler_logit_bias_apply`."""
    logits[token_ids] += bias


def apply_penalties(
    logits: NDArray[np.float32],
    recent_ids: Collection[int],
    *,
    repetition: float = 1.0,
    presence: float = 0.0,
    frequency: float = 0.0,
) -> None:
    """Make recent tokens less likely, in place.

    A positive logit is divided by the repetition penalty and a negative one multiplied, since division alone
    would make negative ones likelier. Source: `llama_sampler_penalties_apply`; what overflows there becomes the largest
    float32 here.

    Args:
        logits: float32 (n_vocab,), changed.
        recent_ids: the latest tokens; one that occurs several times is listed as often.
        repetition: factor > 0; 1 is off.
        presence: subtracted once from each of them.
        frequency: subtracted as often as the token occurs.
    """
    if not recent_ids:
        return
    counted = Counter(recent_ids)
    token_ids = np.fromiter(counted.keys(), np.int32, len(counted))
    counts = np.fromiter(counted.values(), np.float32, len(counted))
    before = logits[token_ids]
    factor = max(np.float32(repetition), _SMALLEST)
    values = np.where(before <= 0, before * factor, before / factor)
    values -= counts * np.float32(frequency) + np.float32(presence)
    has_overflowed = np.isinf(values) & np.isfinite(before)
    if has_overflowed.any():
        values[has_overflowed] = np.copysign(_LARGEST, values[has_overflowed])
    logits[token_ids] = values


def uniform(random: np.random.PCG64) -> float:
    """A number in [0, 1) from one 64-bit word.

    NumPy promises the words of a bit generator for ever, the numbers of `Generator.random` for one version.
    """
    word = random.random_raw()
    return float(int(word) >> 11) * 2.0**-53
