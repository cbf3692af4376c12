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

import functools
import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.engine.compiled_draw import CompiledDraw
from llorch.engine.params import SamplingParams
from llorch.engine.token_mask import TokenMask
from llorch.errors import ConstraintError, NumericalError

_SMALLEST = np.finfo(np.float32).smallest_subnormal
"""A penalty below it counts as this one: 0 would make NaN of a logit of 0."""
_LARGEST = np.finfo(np.float32).max

_GROUP = 64
"""Logits of which the largest is looked for first, where there are enough of them."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Tokens that may still be chosen, in order of their ids.

    Attributes:
        token_ids: int32 (n,), ascending.
        logits: float32 (n,).
    """

    token_ids: NDArray[np.int32]
    logits: NDArray[np.float32]

    @classmethod
    def from_logits(cls, logits: NDArray[np.float32]) -> Candidates:
        """The whole vocabulary; `logits` is not copied."""
        return cls(_all_token_ids(len(logits)), logits)

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Candidates:
        """The candidates that `chosen`, a mask or ascending indices, picks."""
        return Candidates(self.token_ids[chosen], self.logits[chosen])


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


def narrowed(candidates: Candidates, params: SamplingParams) -> Candidates:
    """What top-k, top-p, min-p and temperature leave and make of `candidates`."""
    candidates = top_k(candidates, params.top_k)
    candidates = top_p(candidates, params.top_p)
    candidates = min_p(candidates, params.min_p)
    return scale_temperature(candidates, params.temperature)


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


def top_k(candidates: Candidates, k: int) -> Candidates:
    """The `k` most probable candidates; all of them when `k` is 0. Source: `llama_sampler_top_k_impl`."""
    if k <= 0 or k >= len(candidates.logits):
        return candidates
    logits = candidates.logits
    if k <= len(logits) // _GROUP and len(likely := _likely(logits, k)) < len(logits):
        return top_k(candidates.select(likely), k)
    threshold = np.partition(logits, len(logits) - k)[len(logits) - k]
    chosen = np.flatnonzero(logits >= threshold)
    if len(chosen) > k:
        equal = chosen[logits[chosen] == threshold]
        chosen = np.setdiff1d(chosen, equal[k - len(chosen) :], assume_unique=True)
    return candidates.select(chosen)


def _likely(logits: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Indices, ascending, of all logits that can be among the `k` largest, and of few others.

    The k-th largest of the groups' maxima is at most the k-th largest logit. To find these few and
    then sort them takes half the time of `np.partition` on all of a vocabulary of 49,152.
    """
    n_groups = len(logits) // _GROUP
    maxima = logits[: n_groups * _GROUP].reshape(_GROUP, n_groups).max(axis=0)
    return np.flatnonzero(logits >= np.partition(maxima, n_groups - k)[n_groups - k])


def top_p(candidates: Candidates, p: float) -> Candidates:
    """The fewest most probable candidates whose probabilities sum to at least `p`; never none.

    Source: `llama_sampler_top_p_apply` with `min_keep` 1; sums in float32, as there.
    """
    if p >= 1:
        return candidates
    falling = np.sort(softmax(candidates.logits))[::-1]
    n = int(np.searchsorted(np.cumsum(falling, dtype=np.float32), np.float32(p))) + 1
    return top_k(candidates, n)


def min_p(candidates: Candidates, p: float) -> Candidates:
    """The candidates at least `p` times as probable as the most probable one.

    Source: `llama_sampler_min_p_apply`: the comparison is made on logits.
    """
    if p <= 0:
        return candidates
    threshold = candidates.logits.max() + np.float32(math.log(p))
    return candidates.select(candidates.logits >= threshold)


def scale_temperature(candidates: Candidates, temperature: float) -> Candidates:
    """Divide the logits by `temperature` > 0. Source: `llama_sampler_temp_impl`.

    If the largest overflows, differences to it are divided instead, which gives the same probabilities.
    """
    logits = candidates.logits / np.float32(temperature)
    if not np.isfinite(logits.max()):
        logits = (candidates.logits - candidates.logits.max()) / np.float32(temperature)
    return Candidates(candidates.token_ids, logits)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of `logits`, float32 (n,). Source: `llama_sampler_softmax_impl`."""
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum(), np.float32)


def draw(candidates: Candidates, point: float) -> int:
    """The token in whose share of the total probability `point`, 0 <= point < 1, falls.

    Source: `llama_sampler_dist_apply`, sums in float64. There a sum equal to the target is enough; here it
    must exceed it, so that a token of probability zero is never drawn, not even at 0.
    """
    weights = np.exp(candidates.logits - candidates.logits.max())
    sums = np.cumsum(weights, dtype=np.float64)
    index = int(np.searchsorted(sums, point * sums[-1], side="right"))
    last = int(np.searchsorted(sums, sums[-1]))  # rounding may lift the target to the very end
    return int(candidates.token_ids[min(index, last)])


def uniform(random: np.random.PCG64) -> float:
    """A number in [0, 1) from one 64-bit word.

    NumPy promises the words of a bit generator for ever, the numbers of `Generator.random` for one version.
    """
    word = random.random_raw()
    return float(int(word) >> 11) * 2.0**-53


@functools.lru_cache(maxsize=4)
def _all_token_ids(n_vocab: int) -> NDArray[np.int32]:
    token_ids = np.arange(n_vocab, dtype=np.int32)
    token_ids.flags.writeable = False
    return token_ids
