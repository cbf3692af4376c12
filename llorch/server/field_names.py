"""Faults in a client's words: fields have one name in the engine and in the chats behind an API, another one there."""

from __future__ import annotations

import dataclasses
import re

from llorch.errors import FieldError, RequestError


class FieldNames:
    """What an API calls the fields that are named otherwise behind it.

    Args:
        names: pairs of a regular expression for the beginning of a name, and what stands there in the API.
    """

    def __init__(self, *names: tuple[str, str]) -> None:
        self._names = [(re.compile(pattern), here) for pattern, here in names]

    def fault(self, fault: FieldError) -> FieldError:
        """`fault` with the name that the client wrote, in the message too."""
        name, message = fault.field, fault.message
        for pattern, here in self._names:
            name, message = pattern.sub(here, name), pattern.sub(here, message)
        return dataclasses.replace(fault, field=name, message=message)

    def error(self, error: RequestError) -> RequestError:
        """The same `error`, with all its faults in the client's words."""
        error.errors[:] = map(self.fault, error.errors)
        return error
