"""Every error llorch raises on purpose, in one tree.

`InputError` and what derives from it mean that the caller gave something wrong (a file, a setting, a
request): the command line prints the message on one line and exits with 2, the server answers 4xx.
Messages say what was wrong, what was expected, what was got and where.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass


class LlorchError(Exception):
    """Root of all errors raised by llorch."""


class InputError(LlorchError):
    """Something the caller handed in cannot be used."""


class ModelError(InputError):
    """A model contradicts itself or needs what llorch does not have, whatever format its file has."""


class GGUFError(ModelError):
    """A GGUF file is malformed."""


class SafetensorsError(ModelError):
    """A safetensors file is malformed."""


class OnnxError(ModelError):
    """An ONNX file is malformed, or its graph is not one of a Llama model."""


class SettingsError(InputError):
    """A setting, flag or environment variable is unknown or out of range."""


class PullError(LlorchError):
    """A model could not be fetched, or what came is not what it should be."""


class ReferenceDumpError(InputError):
    """A reference dump or proof bundle is incomplete, altered or made from something else."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one request field.

    Attributes:
        field: name of the field as the client spells it.
        constraint: the rule that was broken, e.g. ``"0 <= temperature <= 2"``.
        message: a sentence for people; never contains the prompt.
    """

    field: str
    constraint: str
    message: str


MAX_FAULTS = 50
"""Faults of one request that are told one by one; the rest is counted. A body of a megabyte may have half a million."""


class RequestError(InputError):
    """A generation request is refused; `errors` holds every fault found, not only the first, up to `MAX_FAULTS`."""

    def __init__(self, errors: list[FieldError]) -> None:
        if len(errors) > MAX_FAULTS:
            rest = f"{len(errors) - MAX_FAULTS} more faults"
            errors = [*errors[:MAX_FAULTS], FieldError("body", "no faults", rest)]
        super().__init__("; ".join(error.message for error in errors))
        self.errors = errors


class ContextLengthError(RequestError):
    """The prompt does not fit the context. Nothing is ever truncated silently."""

    def __init__(
        self, n_prompt_tokens: int, n_ctx: int, *, has_answer: bool = True, field: str = "prompt"
    ) -> None:
        subject = "the prompt" if field == "prompt" else field
        message = f"{subject} has {n_prompt_tokens} tokens and the context holds {n_ctx}"
        if has_answer:
            message += " (one of them must stay free for the answer)"
        sign = "<" if has_answer else "<="
        super().__init__([FieldError(field, f"n_prompt_tokens {sign} n_ctx ({n_ctx})", message)])
        self.n_prompt_tokens = n_prompt_tokens
        self.n_ctx = n_ctx
        self.has_answer = has_answer


class DuplicateJobError(RequestError):
    """An unfinished generation has this name."""


class QueueFullError(LlorchError):
    """The engine's waiting line is full; the client may try again in `retry_after_s` seconds."""

    def __init__(self, n_waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{n_waiting} requests are waiting already; retry in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class EngineStoppedError(LlorchError):
    """The engine is shutting down, or its compute thread died; no request can be taken."""


class KernelError(LlorchError):
    """A compute thread failed or was aborted in the middle of a step."""


class ForkedError(KernelError):
    """A model is used in a process that was forked from the one that loaded it."""


class ConstraintError(LlorchError):
    """What limits a sequence's choice of tokens failed, or leaves none; only that sequence fails."""


class NumericalError(LlorchError):
    """A sequence's logits hold NaN or leave no token to choose; only that sequence fails."""


_SHORTENED = reprlib.Repr()
"""Ends a container after its first items, so that no array of a hostile file is ever made text as a whole."""
_SHORTENED.maxlist = _SHORTENED.maxtuple = _SHORTENED.maxdict = 8
_SHORTENED.maxstring = _SHORTENED.maxother = _SHORTENED.maxlong = 300


def shown(value: object, limit: int = 60) -> str:
    """`value` in a message: its `repr`, cut to `limit` characters, and of a container the first items."""
    try:
        text = _SHORTENED.repr(value)
    except ValueError:  # an integer of more digits than Python converts
        text = f"<{type(value).__name__} with too many digits>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def described(value: object) -> str:
    """A metadata value of the wrong type in a message, its type included; None stands for a missing key."""
    return "nothing (the key is missing)" if value is None else f"{type(value).__name__} {shown(value)}"
