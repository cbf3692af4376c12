"""Samplers for the requests to one model."""

from __future__ import annotations

from llorch.engine.breakers import BreakerFinder
from llorch.engine.request import Request
from llorch.engine.sampling import Sampler
from llorch.engine.token_mask import TokenMask
from llorch.text.tokenizer import Tokenizer


class SamplerFactory:
    """Makes the sampler of each request."""

    def __init__(self, tokenizer: Tokenizer, n_vocab: int) -> None:
        """Set up for a model with `n_vocab` logits."""
        self._eog_ids = tokenizer.vocab.eog_ids
        self._n_vocab = n_vocab
        self._breakers = BreakerFinder(tokenizer, n_vocab)

    def prepare(self, request: Request) -> None:
        """Find what the sampler needs of the vocabulary, and keep it: may take 0.2 s. Any thread may ask."""
        if request.params.has_dry:
            self._breakers.find(request.params.dry_sequence_breakers)

    def new(self, request: Request, seed: int) -> Sampler:
        """The sampler of a checked request."""
        params = request.params
        mask = None
        if request.constraint is not None:
            mask = TokenMask(request.constraint, self._n_vocab, self._eog_ids)
        return Sampler(
            params,
            seed,
            request.token_ids,
            self._eog_ids if request.ignore_eos else self._eog_ids.union(request.stop_token_ids),
            mask,
            min_tokens=None if request.ignore_eos else request.min_tokens,
            breakers=self._breakers.find(params.dry_sequence_breakers) if params.has_dry else None,
            keeps_candidates=request.logprobs_after_sampling,
        )
