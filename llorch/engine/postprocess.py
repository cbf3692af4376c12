"""From a step's logits to tokens: each sequence that has all its tokens computed gets its next one, or ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llorch.engine.events import Event, FinishReason, TokenEvent
from llorch.engine.scheduler import Chunk
from llorch.engine.sequence import Sequence
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

    def advance(self, chunks: list[Chunk], logits: NDArray[np.float32]) -> None:
        """Count what was computed; sample for the sequences that have nothing pending any more.

        Args:
            chunks: what the step computed.
            logits: float32 (n_outputs, n_vocab), of each chunk's last `n_outputs` tokens, chunk after chunk.
        """
        row = 0
        for chunk in chunks:
            sequence = chunk.sequence
            sequence.n_computed += chunk.n_tokens
            row += chunk.n_outputs
            if sequence.n_pending:
                continue
            try:
                self._accept_token(sequence, sequence.sampler.sample(logits[row - 1]))
            except Exception as error:
                self._fail(sequence, error)
            except BaseException:
                # Ctrl-C in a thread that computes for others, who need the token: it is computed again.
                sequence.n_computed -= chunk.n_tokens
                raise

    def _accept_token(self, sequence: Sequence, token_id: int) -> None:
        """Append a sampled token to `sequence`, or end it."""
        if self._tokenizer.is_eog(token_id) and not sequence.request.ignore_eos:
            self._finish(sequence, "stop")
            return
        i = sequence.n_generated
        sequence.append(token_id, time.perf_counter())
        stream = sequence.text_stream
        text = stream.push(token_id)
        is_full = len(sequence.token_ids) >= sequence.n_max
        if is_full:
            text += stream.finish()
        self._emit(sequence, TokenEvent(i, token_id, text))
        if stream.matched_stop is not None:
            self._finish(sequence, "stop")
        elif is_full:
            self._finish(sequence, "length")
