"""What a caller wants generated, and the checks that decide whether it can be."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from llorch.engine.params import SamplingParams
from llorch.errors import ContextLengthError, FieldError, InputError, RequestError
from llorch.fields.table import FIELDS
from llorch.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller wants generated. Immutable, and complete: text is token ids here, defaults are filled in.

    Attributes:
        job_id: name of the generation, unique among unfinished ones.
        token_ids: the prompt.
        params: how tokens are chosen.
        max_tokens: most tokens to generate; the context may end the text earlier.
        stop: strings that end the text and are not part of it.
        ignore_eos: never choose an end-of-generation token.
    """

    job_id: str
    token_ids: tuple[int, ...]
    params: SamplingParams
    max_tokens: int
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def check(self, n_vocab: int, n_ctx: int) -> None:
        """Refuse a request that cannot be generated.

        Raises:
            RequestError: with every fault of the request.
            ContextLengthError: the prompt fills the context.
        """
        faults = FIELDS["job_id"].python_faults(self.job_id)
        if not self.token_ids:
            faults.append(_fault("prompt", "at least one token"))
        if not all(0 <= token_id < n_vocab for token_id in self.token_ids):
            faults.append(_fault("token_ids", f"0 <= id < {n_vocab}"))
        for name in ("max_tokens", "stop", "ignore_eos"):
            faults += FIELDS[name].python_faults(getattr(self, name))
        if not all(token_id < n_vocab for token_id in self.params.logit_bias):
            faults.append(_fault("logit_bias", f"0 <= id < {n_vocab}"))
        if faults:
            raise RequestError(faults)
        if len(self.token_ids) >= n_ctx:
            raise ContextLengthError(len(self.token_ids), n_ctx)


def check_prompt(prompt: str | None, token_ids: Iterable[int] | None, max_chars: int) -> None:
    """Refuse a prompt that is not exactly one of text of 1..`max_chars` characters and token ids.

    Raises:
        RequestError: it is not.
    """
    if (prompt is None) == (token_ids is None):
        raise RequestError([FieldError("prompt", "prompt or token_ids", "give either prompt or token_ids")])
    if prompt is not None and not 1 <= len(prompt) <= max_chars:
        message = f"prompt has {len(prompt)} characters, 1..{max_chars} are possible"
        raise RequestError([FieldError("prompt", f"1..{max_chars} characters", message)])


def encode_prompt(tokenizer: Tokenizer, prompt: str, *, parse_special: bool = False) -> tuple[int, ...]:
    """The token ids of `prompt`, BOS included where the model wants one.

    Args:
        tokenizer: the model's.
        prompt: text.
        parse_special: recognise control tokens in it; not for text from strangers.

    Raises:
        RequestError: `prompt` is not valid Unicode.
    """
    try:
        return tuple(tokenizer.encode(prompt, parse_special=parse_special))
    except RequestError:
        raise
    except InputError as error:
        raise RequestError([FieldError("prompt", "valid Unicode", str(error))]) from None


def _fault(name: str, rule: str) -> FieldError:
    return FieldError(name, rule, f"{name} must satisfy: {rule}")


def new_seed() -> int:
    """A seed for a request without one; 53 bits, because JavaScript's JSON numbers hold no more."""
    return secrets.randbits(53)


def duplicate_job() -> RequestError:
    """The error for a `job_id` that an unfinished generation has."""
    message = "another request of this job_id is not finished yet"
    return RequestError([FieldError("job_id", "unique among unfinished requests", message)])
