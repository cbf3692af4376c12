"""From a step's logits to tokens: each sequence that has all its tokens computed gets its next ones, or ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llorch.engine.events import EndTokenEvent, Event, FinishReason, PromptEvent, TokenEvent, TokenLogprobs
from llorch.engine.logprobs import token_logprobs
from llorch.engine.scheduler import Chunk
from llorch.engine.sequence import Sequence
from llorch.errors import NumericalError
from llorch.text.tokenizer import Tokenizer

Emit: TypeAlias = Callable[[Sequence, Event], None]
Finish: TypeAlias = Callable[[Sequence, FinishReason], None]
Fail: TypeAlias = Callable[[Sequence, Exception], None]


class Postprocessor:
    """Samples, and tells the engine what became of each sequence."""

    def __init__(self, tokenizer: Tokenizer, emit: Emit, finish: Finish, fail: Fail) -> None:
        """Set up.

        Args:
            tokenizer: the model's.
            emit: takes the events of a sequence.
            finish: ends a sequence.
            fail: ends a sequence with what it raised.
        """
        self._tokenizer = tokenizer
        self._emit = emit
        self._finish = finish
        self._fail = fail

    def advance(self, chunks: list[Chunk], logits: NDArray[np.float32], states: NDArray[np.float32]) -> None:
        """Count what was computed; sample for the sequences that have nothing pending any more.

        Args:
            chunks: what the step computed.
            logits: float32 (n_outputs, n_vocab), of each chunk's last `n_outputs` rows, chunk after chunk.
            states: float32 (at least n_rows, n_embd), what left the last layer, of all rows, chunk after chunk.
        """
        end = row = 0
        for chunk in chunks:
            end += chunk.n_outputs
            sequence = chunk.sequence
            try:
                if (reader := sequence.request.states_to) is not None:
                    reader.read(sequence.n_computed, states[row : row + chunk.n_tokens])
                self._advance(chunk, logits, end)
            except Exception as error:
                self._fail(sequence, error)
            except BaseException:
                # Ctrl-C in a thread that computes for others, who need the token: it is computed again.
                sequence.n_computed = min(sequence.n_computed, len(sequence.token_ids) - 1)
                raise
            row += chunk.n_tokens + len(chunk.draft)

    def _advance(self, chunk: Chunk, logits: NDArray[np.float32], end: int) -> None:
        """Advance one sequence, whose rows of `logits` end before row `end`."""
        sequence = chunk.sequence
        if sequence.lacks_prompt_logprobs:
            self._judge_prompt(chunk, logits[end - chunk.n_outputs : end])
        sequence.n_computed += chunk.n_tokens
        if sequence.n_pending:
            return
        if sequence.request.n_prompt_logprobs is not None and not sequence.is_prompt_reported:
            sequence.is_prompt_reported = True
            self._emit(sequence, PromptEvent(tuple(sequence.prompt_logprobs)))
        if sequence.request.max_tokens == 0:
            self._finish(sequence, "length")
            return
        if not chunk.draft:
            self._sample(sequence, logits[end - 1], None)
            return
        sequence.n_drafted += len(chunk.draft)
        try:
            self._sample_rows(sequence, logits[end - 1 - len(chunk.draft) : end], chunk.draft)
        except NumericalError:
            # Infinite values of a drafted token make NaN of rows before it: its weight there is 0, and 0 * inf is NaN.
            sequence.drafter = None
            sequence.n_computed = len(sequence.token_ids) - 1

    def _judge_prompt(self, chunk: Chunk, logits: NDArray[np.float32]) -> None:
        """Note how probable the tokens of the prompt are that follow the rows of `logits`."""
        sequence = chunk.sequence
        n_top = sequence.request.n_prompt_logprobs
        assert n_top is not None
        known = sequence.prompt_logprobs
        first = sequence.n_computed + chunk.n_tokens - len(logits) + 1  # what the first row predicts
        for i in range(len(known), min(first + len(logits), sequence.n_prompt)):
            known.append(token_logprobs(logits[i - first], sequence.token_ids[i], n_top))

    def _sample_rows(self, sequence: Sequence, logits: NDArray[np.float32], draft: tuple[int, ...]) -> None:
        """Choose the next token from the first row, and one from each further row whose drafted token was chosen."""
        for row, guess in zip(logits, (*draft, None), strict=True):
            if not self._sample(sequence, row, guess):
                return
            sequence.n_computed += 1

    def _sample(self, sequence: Sequence, logits: NDArray[np.float32], guess: int | None) -> bool:
        """Choose the next token of `sequence`; whether it is `guess`, so that the row of that is of use."""
        token_id = sequence.sampler.sample(logits)
        if sequence.logits_hash is not None:
            sequence.logits_hash.add(logits, token_id)
        is_right = token_id == guess
        sequence.n_accepted += is_right
        n_top = sequence.request.n_logprobs
        left = sequence.sampler.left if sequence.request.logprobs_after_sampling else None
        judged = None if n_top is None else token_logprobs(logits, token_id, n_top, left)
        self._accept_token(sequence, token_id, judged)
        return is_right and sequence.slot >= 0

    def _ends(self, sequence: Sequence, token_id: int) -> bool:
        """Whether a chosen token is the end of the text, and no part of it."""
        asked = sequence.request
        is_stop = token_id in asked.stop_token_ids and sequence.n_generated >= asked.min_tokens
        return is_stop or (self._tokenizer.is_eog(token_id) and not asked.ignore_eos)

    def _accept_token(self, sequence: Sequence, token_id: int, logprobs: TokenLogprobs | None) -> None:
        """Append a sampled token to `sequence`, or end it."""
        if self._ends(sequence, token_id):
            if logprobs is not None:
                self._emit(sequence, EndTokenEvent(token_id, logprobs))
            self._finish(sequence, "stop")
            return
        i = sequence.n_generated
        sequence.append(token_id, time.perf_counter())
        stream = sequence.text_stream
        text = stream.push(token_id)
        must_end = sequence.sampler.must_end
        is_full = len(sequence.token_ids) >= sequence.n_max
        if is_full or must_end:
            text += stream.finish()
        self._emit(sequence, TokenEvent(i, token_id, text, logprobs))
        if stream.matched_stop is not None or must_end:
            self._finish(sequence, "stop")
        elif is_full:
            self._finish(sequence, "length")
