"""What comes out of an answer that may call tools, piece by piece."""

from __future__ import annotations

import json
import secrets
import string
from dataclasses import dataclass
from typing import Any, TypeAlias


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


def arguments_object(text: str) -> dict[str, Any] | None:
    """The arguments of a call as an object; None if `text`, their JSON, was cut off, or is no object."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
        # Escapes can spell half a character, which no UTF-8 can.
        value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_constant(name: str) -> None:
    """Refuse NaN and the infinities, which JSON has not."""
    raise ValueError(name)


def new_call_id() -> str:
    """An id for a call: nine letters and digits, because templates of Mistral accept no others."""
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(9))
