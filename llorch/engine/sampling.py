"""From logits to the next token: small functions, composed in llama.cpp's order.

logit bias, penalties, DRY, top-k, top-p, min-p, temperature, draw. The first three change logits of the whole
vocabulary; the others narrow a set of candidates. Other steps, and another order, are `chain`'s. Among equal logits the
smaller token id wins everywhere, so a result never depends on a sorting algorithm.

Parameters at the ends of their ranges take float32 to its own: a penalty of 1e-45 makes logits overflow, a temperature
of 1e-6 too. Finite logits stay finite or fall to ``-inf``, a probability of 0; they become neither NaN nor ``+inf``.

Source: llama.cpp 0.5.0-dev, `src/llama-sampler.cpp` (function names stand with each step), and the order in
`common/sampling.cpp`. The draw uses another random generator: a seed gives another text than in llama.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from llorch.engine.chain import Chain
from llorch.engine.compiled_draw import CompiledDraw
from llorch.engine.dry import Breakers, Repeats
from llorch.engine.narrowing import Candidates, draw, narrowed
from llorch.engine.params import SamplingParams
from llorch.engine.penalties import apply_penalties
from llorch.engine.token_mask import TokenMask
from llorch.errors import ConstraintError, NumericalError

_NONE = (np.zeros(0, np.int64), np.zeros(0, np.float32))
"""No penalties of DRY."""


class Sampler:
    """The chain of one sequence: its parameters, its random generator and the tokens it has seen.

    Attributes:
        left: the candidates that the last token was drawn from, if they are kept.
    """

    left: Candidates | None = None

    def __init__(
        self,
        params: SamplingParams,
        seed: int,
        prompt_ids: Sequence[int],
        forbidden_ids: Collection[int] = (),
        mask: TokenMask | None = None,
        *,
        min_tokens: int | None = None,
        breakers: Breakers | None = None,
        keeps_candidates: bool = False,
    ) -> None:
        """Set up the chain.

        Args:
            params: what the request asked for.
            seed: u64; decides every draw.
            prompt_ids: they count as recent tokens if the parameters say so.
            forbidden_ids: tokens never chosen (end-of-generation ones, when those are ignored).
            mask: limits the choice further, from token to token.
            min_tokens: `forbidden_ids` may be chosen after so many tokens; None: never.
            breakers: of the vocabulary, for DRY.
            keeps_candidates: whether `left` is asked for; the tokens are the same.
        """
        self.params = params = params.in_effect()
        self._random = np.random.PCG64(seed)
        self._history = list(prompt_ids) if params.has_penalties and params.penalize_prompt else []
        self._mask = mask
        self._repeats = None
        if params.has_dry and breakers is not None:
            self._repeats = Repeats(params, breakers, prompt_ids)
        self._n_forbidding = math.inf if min_tokens is None else min_tokens
        self._forbid(forbidden_ids if self._n_forbidding else ())
        is_plain = mask is None and not params.logit_bias and not params.has_penalties and not params.has_dry
        is_quick = params.is_usual and not keeps_candidates
        self._is_quick = is_plain and is_quick
        self._chain: Chain | None = None
        self._compiled: CompiledDraw | None = None
        if not is_quick:
            self._chain = Chain(params, self._recent, self._repeats, lambda: uniform(self._random))
        elif not params.is_greedy:
            self._compiled = CompiledDraw(params)

    def _forbid(self, token_ids: Collection[int]) -> None:
        bias = {**self.params.logit_bias, **dict.fromkeys(token_ids, -np.inf)}
        self._bias_ids = np.array(list(bias), np.int32)
        self._bias = np.array(list(bias.values()), np.float32)
        self._forbidden_ids = frozenset(token_ids)

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
        token_id = self._quick(logits) if self._is_quick else None
        if token_id is None:
            token_id = self._sample(logits)
        if self._forbidden_ids:
            self._n_forbidding -= 1
            if self._n_forbidding <= 0:
                self._forbid(())
        return token_id

    def _quick(self, logits: NDArray[np.float32]) -> int | None:
        """As `sample`, where no logit is changed before the choice; None if one has to be, or is no number."""
        if self._compiled is not None:
            return None if self._forbidden_ids else self._draw(self._compiled, logits)
        best = int(logits.argmax())
        return best if best not in self._forbidden_ids and math.isfinite(logits[best]) else None

    @np.errstate(all="ignore")  # overflow and underflow are meant; NaN is looked for
    def _sample(self, logits: NDArray[np.float32]) -> int:
        """As `sample`. Few logits are changed, for a while: to copy all of them would sweep 200 to 500 KB of cache."""
        has_chain = self._chain is not None
        recent = self._recent() if self.params.has_penalties and not has_chain else []
        repeated, amounts = _NONE if self._repeats is None or has_chain else self._repeats.penalties()
        if not recent and not len(self._bias_ids) and not len(repeated):
            return self._choose(logits)
        if not logits.flags.writeable:
            logits = logits.copy()
        changed = np.array([*self._bias_ids.tolist(), *recent, *repeated.tolist()], np.int64)
        before = logits[changed]
        try:
            logits[self._bias_ids] += self._bias  # `llama_sampler_logit_bias_apply`
            apply_penalties(logits, recent, self.params)
            logits[repeated] -= amounts
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
        if self._chain is not None:
            _best(logits)
            token_id = self._chain.choose(logits)
            self.left = self._chain.left
        elif self._compiled is not None:
            drawn = self._draw(self._compiled, logits)
            if drawn is None:
                _best(logits)
                drawn = draw(narrowed(Candidates.from_logits(logits), self.params), uniform(self._random))
            token_id = drawn
        else:
            token_id = _best(logits)
        if self.params.has_penalties:
            self._history.append(token_id)
        if self._repeats is not None:
            self._repeats.append(token_id)
        if self._mask is not None:
            self._mask.accept(token_id)
        return token_id

    def _recent(self) -> list[int]:
        last_n = self.params.penalty_last_n
        return self._history if last_n < 0 else self._history[-last_n:]

    @np.errstate(all="ignore")
    def _draw(self, compiled: CompiledDraw, logits: NDArray[np.float32]) -> int | None:
        n = compiled.narrow(logits)
        return compiled.pick(n, uniform(self._random)) if n > 0 else None


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


def uniform(random: np.random.PCG64) -> float:
    """A number in [0, 1) from one 64-bit word.

    NumPy promises the words of a bit generator for ever, the numbers of `Generator.random` for one version.
    """
    word = random.random_raw()
    return float(int(word) >> 11) * 2.0**-53
