"""What a request says about the structure of its answer, and what the engine needs for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llorch.chat.grammar import Factory, json_rule
from llorch.chat.structure import ModelStructure
from llorch.chat.text_rule import TextRule
from llorch.chat.tool_calls import ToolCallParser
from llorch.chat.tool_format import taught_messages
from llorch.chat.tool_grammar import tool_calls_constraint
from llorch.chat.tools import Tool, ToolChoice, parse_tool_choice, parse_tools
from llorch.errors import FieldError, RequestError
from llorch.server.routes.openai.constraints import CONSTRAINTS, Document, parse_constraint

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Structure:
    """What a request says about the structure of its answer.

    Attributes:
        document: the JSON that it shall be, unless it is calls of tools.
        rule: what it shall fit to the letter; not beside a document, nor beside tools that may be called.
        tools: those of the request.
        shown_tools: the same as the request spells them, for the template.
        choice: whether they are called.
        is_parallel: there may be several calls.
    """

    document: Document | None = None
    rule: TextRule | None = None
    tools: tuple[Tool, ...] = ()
    shown_tools: Sequence[Mapping[str, Any]] = ()
    choice: ToolChoice = field(default=ToolChoice("none"))
    is_parallel: bool = True

    @property
    def has_tools(self) -> bool:
        """Whether the answer may call tools."""
        return bool(self.choice.allowed(self.tools))

    def parser(self, model: ModelStructure) -> ToolCallParser | None:
        """What finds calls in one choice; None if there can be none.

        Raises:
            RequestError: the model cannot call tools.
        """
        if not self.has_tools:
            return None
        if model.tool_format is None:
            message = "tools: the chat template of this model teaches no form of calls that the server knows"
            raise RequestError([FieldError("tools", "a model that can call tools", message)])
        names = [tool.name for tool in self.choice.allowed(self.tools)]
        return ToolCallParser(model.tool_format, names, is_parallel=self.is_parallel)

    def constraint(self, model: ModelStructure) -> Factory | None:
        """What binds the answer; takes milliseconds, at the first time a second.

        Raises:
            RequestError: what is asked for cannot be enforced.
        """
        if self.has_tools:
            return self._constraint_of_calls(model)
        if self.rule is not None:
            return self.rule.constraint(model.grammars)
        if self.document is None:
            return None
        wanted = self.document
        return model.grammars.json_schema(wanted.schema, field=wanted.field, is_lenient=not wanted.is_strict)

    def _constraint_of_calls(self, model: ModelStructure) -> Factory | None:
        assert model.tool_format is not None  # there is a parser
        wanted, is_required = self.document, self.choice.mode == "required"
        document = None if wanted is None else json_rule(wanted.schema, wanted.field, not wanted.is_strict)
        tools = self.choice.allowed(self.tools)
        try:
            return tool_calls_constraint(
                model.grammars,
                model.tool_format,
                model.marks,
                tools,
                is_required=is_required,
                is_parallel=self.is_parallel,
                document=document,
            )
        except RequestError as error:
            if is_required or document is not None or any(tool.is_strict for tool in tools):
                raise
            logger.debug("calls are not bound to their schemas: %s", error)
            return None

    def prompt_of(
        self, model: ModelStructure, messages: Sequence[Mapping[str, Any]]
    ) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]] | None]:
        """Messages, as `checked_messages` returns them, and tools as the template wants them."""
        tools = self.shown_tools if self.has_tools else ()
        if model.tool_format is not None and model.tool_format.is_taught_by_llorch:
            return taught_messages(messages, tools), None
        return messages, tools or None


FREE = Structure()
"""Any text."""

_FIELDS = (*CONSTRAINTS, "tools", "text")


async def parsed(
    parse: Callable[[Mapping[str, Any], int], dict[str, Any]], body: Mapping[str, Any], max_prompt_chars: int
) -> dict[str, Any]:
    """What `parse` makes of a body; on another thread where the body may hold large schemas.

    Raises:
        RequestError: as `parse`.
    """
    if any(body.get(name) is not None for name in _FIELDS):
        return await asyncio.to_thread(parse, body, max_prompt_chars)
    return parse(body, max_prompt_chars)


async def constraint_of(structure: Structure, model: ModelStructure) -> Factory | None:
    """What binds the answer to its structure, made on another thread.

    Raises:
        RequestError: the model cannot call tools, or what is asked for cannot be enforced.
    """
    if structure.parser(model) is None and structure.document is None and structure.rule is None:
        return None
    return await asyncio.to_thread(structure.constraint, model)


def parse_structure(body: Mapping[str, Any], faults: list[FieldError], *, has_tools: bool) -> Structure:
    """What a body says about the structure of the answer; what is wrong with that is appended to `faults`.

    Args:
        body: a JSON object.
        faults: of the request.
        has_tools: whether the route knows tools.
    """
    constraint = parse_constraint(body, faults)
    document = constraint if isinstance(constraint, Document) else None
    rule = constraint if isinstance(constraint, TextRule) else None
    if not has_tools:
        return Structure(document, rule)
    values = body.get("tools")
    tools = () if values is None else parse_tools(values, faults)
    choice = parse_tool_choice(body.get("tool_choice"), tools, faults)
    structure = Structure(
        document, rule, tools, values or (), choice, body.get("parallel_tool_calls") is not False
    )
    if rule is not None and structure.has_tools:
        words = "without tools that may be called"
        faults.append(FieldError(rule.field, words, f"{rule.field}: only {words}"))
    return structure
