"""What the operator lets a request ask for, and how long it may take: bounds that depend on the settings."""

from __future__ import annotations

import math

from starlette.requests import Request

from llorch.errors import FieldError, RequestError
from llorch.fields.table import FIELDS
from llorch.server.errors import HTTPRefusalError
from llorch.settings import Settings

TIMEOUT_HEADER = "X-Request-Timeout"
"""Seconds, as a decimal number. For clients that cannot add fields to a body, and for proxies."""


def timeout_of(request: Request, given_s: float | None) -> float | None:
    """Seconds that a client gives its request: the shorter of a field of its body and the header; None for neither.

    The SDKs' own headers (`x-stainless-read-timeout`) are not read: they bound the pause between two reads, which a
    stream may exceed many times over, and whoever gives up waiting for anything else closes the connection.

    Raises:
        HTTPRefusalError: the header is no such number.
    """
    header = request.headers.get(TIMEOUT_HEADER)
    limits = [limit for limit in (given_s, None if header is None else _seconds(header)) if limit is not None]
    return min(limits, default=None)


def _seconds(text: str) -> float:
    try:
        value = float(text) if len(text) <= 32 and text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if FIELDS["timeout_s"].faults(value):
        rule = FIELDS["timeout_s"].kind.rule.format(name="seconds")
        got = f"got {value:g}" if math.isfinite(value) else "got something else"
        message = f"{TIMEOUT_HEADER}: expected {rule}; {got}"
        raise HTTPRefusalError(400, FieldError(TIMEOUT_HEADER, rule, message))
    return value


def limit_faults(settings: Settings, name: str, max_tokens: int | None) -> list[FieldError]:
    """What is wrong with the number of tokens that a request asks for.

    Args:
        settings: the operator's.
        name: of the field that asks.
        max_tokens: its value; None and negative ones ask for no number.
    """
    most = settings.max_answer_tokens
    if not most or max_tokens is None or max_tokens <= most:
        return []
    rule = f"{name} <= {most}"
    message = f"{name}: expected {rule} (max_answer_tokens of this server); got {max_tokens}"
    return [FieldError(name, rule, message)]


def capacity_faults(n: int, n_choices: int, settings: Settings, *, name: str = "n") -> list[FieldError]:
    """What is wrong with a number of generations: the operator allows less, or they will never have places all at once.

    Args:
        n: answers to each prompt.
        n_choices: answers to all prompts.
        settings: the operator's.
        name: of the field that says `n`.
    """
    if n > settings.max_choices:
        rule = f"{name} <= {settings.max_choices}"
        message = f"{name}: expected {rule} (max_choices of this server); got {n}"
        return [FieldError(name, rule, message)]
    most = settings.parallel + settings.max_waiting
    if n_choices <= most:
        return []
    name = name if n > 1 else "prompt"
    message = f"{name}: {n_choices} choices are asked for, and the server takes at most {most} at once"
    return [FieldError(name, f"choices of all prompts <= {most}", message)]


def refuse_if(faults: list[FieldError]) -> None:
    """Raise `faults`, if there are any.

    Raises:
        RequestError: with all of them.
    """
    if faults:
        raise RequestError(faults)
