"""What the table says of one setting or request field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llorch.errors import FieldError
from llorch.fields.kinds import Kind

MODEL = "The model and how it is computed"
DEFAULTS = "What a request gets when it does not say"
SERVER = "The server"


@dataclass(frozen=True)
class Field:
    """A setting, a request field, or both.

    Attributes:
        name: in requests, in the settings file and in Python.
        kind: what values it takes.
        default: None where there is none, or where it is made anew for each request.
        section: where it stands in the settings file; None if it is no setting.
        is_request: whether a request may have it.
        words: what it means, in a clause or two, and its special values.
        flags: command-line spellings, if there are more than the name with hyphens.
        metavar: its value in the command's help; default: made from the kind.
        python_kind: what Python callers may give, if that is more than JSON can say.
        example: a value for the settings file, where there is no default.
        others_say: names of the field in the requests of other servers.
    """

    name: str
    kind: Kind
    default: Any
    section: str | None = None
    is_request: bool = False
    words: str = field(kw_only=True)
    flags: tuple[str, ...] = ()
    metavar: str = ""
    python_kind: Kind | None = None
    example: str = ""
    others_say: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        """The rule in words: ``"a number, 0 <= temperature <= 2"``."""
        return self.kind.rule.format(name=self.name)

    def faults(self, value: object) -> list[FieldError]:
        """Everything that is wrong with `value`, as JSON has it."""
        rule = self.rule
        errors = []
        for index, got in self.kind.faults(value):
            subject = self.name if index is None else f"{self.name}[{index}]"
            errors.append(FieldError(subject, rule, f"{subject}: expected {rule}; {got}"))
        return errors

    def python_faults(self, value: object) -> list[FieldError]:
        """The first thing that is wrong with `value`, as a Python caller gave it."""
        kind = self.python_kind or self.kind
        found = kind.faults(kind.plain(value))[:1]
        if not found:  # nearly always
            return []
        rule = kind.rule.format(name=self.name)
        return [FieldError(self.name, rule, f"{self.name}: expected {rule}; {got}") for _, got in found]

    def plain(self, value: object) -> Any:
        """`value` of a Python caller as a plain Python value; what is of no such kind stays as it is."""
        return (self.python_kind or self.kind).plain(value)
