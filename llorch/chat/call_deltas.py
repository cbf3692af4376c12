"""What comes out of an answer that may call tools, piece by piece."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Content:
    """Text that is no call."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    """A call begins; `index` counts the calls of an answer."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the arguments of the latest call: JSON text."""

    index: int
    text: str


Delta: TypeAlias = Content | CallBegin | CallArguments


def new_call_id() -> str:
    """An id for a call: nine letters and digits, because templates of Mistral accept no others."""
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(9))
