"""How probable tokens were, in the shapes of OpenAI's two routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llorch.engine.events import EndTokenEvent, TokenEvent, TokenLogprobs
from llorch.text.detokenizer import Detokenizer
from llorch.text.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0
"""OpenAI's word for impossible: JSON has no infinity."""


def finite(logprob: float) -> float:
    """`logprob` as JSON can say it."""
    return max(logprob, LEAST_LOGPROB)


def token_text(piece: bytes) -> str:
    """The bytes of a token as text; those that are no UTF-8 alone are spelt ``bytes:\\xe2\\x82``, as OpenAI does."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def chat_logprobs(tokenizer: Tokenizer, events: Iterable[TokenEvent | EndTokenEvent]) -> dict[str, Any]:
    """`logprobs` of a choice of a chat; the token that ended it is not among them."""
    return {"content": token_logprobs(tokenizer, events), "refusal": None}


def token_logprobs(
    tokenizer: Tokenizer, events: Iterable[TokenEvent | EndTokenEvent]
) -> list[dict[str, Any]]:
    """How probable each token of a text was, as chats and responses spell it; not the token that ended the text."""
    content = []
    for event in events:
        if isinstance(event, TokenEvent) and event.id is not None and event.logprobs is not None:
            top = [_chat_entry(tokenizer, token_id, logprob) for token_id, logprob in event.logprobs.top]
            content.append({**_chat_entry(tokenizer, event.id, event.logprobs.logprob), "top_logprobs": top})
    return content


def _chat_entry(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    piece = tokenizer.token_bytes(token_id, special=True)
    return {"token": token_text(piece), "logprob": finite(logprob), "bytes": list(piece)}


class CompletionLogprobs:
    """`logprobs` of a choice of a completion, as its tokens come: arrays with an entry for each token.

    `text_offset` counts characters of the choice's `text`, the echoed prompt included.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: tuple[int, ...], *, has_echo: bool) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer, () if has_echo else prompt_ids)
        self._offset = 0

    def entries(self, tokens: Iterable[tuple[int, TokenLogprobs | None]]) -> dict[str, list[Any]]:
        """The arrays for the next tokens; None is of the first one of a prompt, which nothing predicts."""
        arrays: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for token_id, logprobs in tokens:
            text = self._text(token_id)
            arrays["tokens"].append(text)
            arrays["text_offset"].append(self._offset)
            self._offset += len(self._detokenizer.push(token_id))
            arrays["token_logprobs"].append(None if logprobs is None else finite(logprobs.logprob))
            arrays["top_logprobs"].append(None if logprobs is None else self._top(text, logprobs))
        return arrays

    def _top(self, text: str, logprobs: TokenLogprobs) -> dict[str, float]:
        """The most probable tokens and the chosen one by their texts; of two that spell the same, the likelier."""
        top: dict[str, float] = {}
        for token_id, logprob in logprobs.top:
            top.setdefault(
                self._text(token_id), finite(logprob)
            )  # they come with the most probable one first
        top[text] = max(top.get(text, LEAST_LOGPROB), finite(logprobs.logprob))
        return top

    def _text(self, token_id: int) -> str:
        return token_text(self._tokenizer.token_bytes(token_id, special=True))
