"""The chat template of a model: messages become the text, or the token ids, that the model continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llorch.chat.jinja.program import TemplateFault
from llorch.chat.marked import MarkedTemplate, UnfitValue
from llorch.chat.trial import TOOLS, Habits, find_habits
from llorch.errors import FieldError, RequestError
from llorch.text.tokenizer import Tokenizer

_RESERVED = frozenset(
    {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "raise_exception",
     "strftime_now", "range", "namespace", "dict", "cycler", "joiner"}
)  # fmt: skip
"""Names that a request's own variables cannot have."""

Message = Mapping[str, Any]
"""``{"role", "content": str | None}``, and where they apply ``tool_calls``, ``tool_call_id``, ``name``."""


class ChatTemplate:
    """A template, compiled for one vocabulary and tried. Read-only: threads may share it.

    Attributes:
        source: Jinja.
        name: of a built-in template, or where it comes from.
        problem: why it cannot be used; None if it can. One that cannot refuses every request.
        tool_problem: why its variant for requests with tools cannot be used; None if it can, or there is none.
        supports_tools: whether it writes descriptions of tools.
        supports_system: whether it writes system messages.
        end_id: the control token that it puts behind an answer; None if it puts none there.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, name: str, tool_source: str | None = None) -> None:
        """Compile and try a template; it never fails, but may have a `problem`.

        Args:
            source: Jinja.
            tokenizer: the model's.
            name: of a built-in template, or where it comes from.
            tool_source: in its place for requests with tools.
        """
        self.source = source
        self.name = name
        self.problem: str | None = None
        self.tool_problem: str | None = None
        self._tokenizer = tokenizer
        self._special_texts = tokenizer.special_texts()
        self._texts = {token_id: text for text, token_id in self._special_texts.items()}
        self._tool_template: MarkedTemplate | None = None
        habits = Habits()
        try:
            self._template = self._compiled(source)
            habits = find_habits(self._template)
        except TemplateFault as fault:
            self.problem = str(fault)
        if tool_source is not None and self.problem is None:
            try:
                tool_template = self._compiled(tool_source)
                find_habits(tool_template, tools=TOOLS)
                self._tool_template = tool_template
            except TemplateFault as fault:
                self.tool_problem = str(fault)
        self._habits = habits
        self.end_id = habits.end_id
        self.supports_system = habits.supports_system
        self.supports_tools = self.problem is None and (
            self._tool_template is not None or "tools" in self._template.names
        )

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
        begun: str = "",
    ) -> str:
        """The text of a conversation, control tokens spelled out.

        Args:
            messages: as `checked_messages` returns them.
            tools: descriptions of functions, as OpenAI's API has them.
            add_generation_prompt: begin the answer.
            variables: more that the template may ask for.
            begun: a text that the answer begins with.

        Raises:
            RequestError: the template cannot be used, refuses the messages, or does too much.
        """
        parts = self._parts(messages, tools, add_generation_prompt, variables or {}, begun)
        return "".join(part if isinstance(part, str) else self._texts[part] for part in parts)

    def prompt_ids(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
        begun: str = "",
    ) -> list[int]:
        """Token ids of a conversation: control tokens where the template itself writes them, and one BOS at most.

        Args:
            tokenizer: the one that the template was compiled for.
            messages: as `checked_messages` returns them.
            tools: descriptions of functions, as OpenAI's API has them.
            add_generation_prompt: begin the answer.
            variables: more that the template may ask for.
            begun: a text that the answer begins with.

        Raises:
            RequestError: the template cannot be used, refuses the messages, or does too much.
        """
        parts = self._parts(messages, tools, add_generation_prompt, variables or {}, begun)
        bos_id = tokenizer.vocab.bos_id
        if bos_id is not None:
            while parts[:2] == [bos_id, bos_id]:
                del parts[0]
            is_there = bos_id in parts[:2] and (parts[0] == bos_id or not str(parts[0]).strip())
            if tokenizer.vocab.add_bos and not is_there:
                parts.insert(0, bos_id)
        return tokenizer.encode_parts(parts)

    def _compiled(self, source: str) -> MarkedTemplate:
        vocab = self._tokenizer.vocab
        own = {
            name: "" if token_id is None else vocab.tokens[token_id].decode(errors="replace")
            for name, token_id in (("bos_token", vocab.bos_id), ("eos_token", vocab.eos_id))
        }
        controls = filter(vocab.is_control, self._special_texts.values())
        return MarkedTemplate(source, self._special_texts, controls, own)

    def _parts(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
        variables: Mapping[str, Any],
        begun: str,
    ) -> list[str | int]:
        if self.problem is not None:
            raise _refusal(
                "a model with a usable chat template",
                f"the chat template of this model cannot be used ({self.problem}); start the server with "
                "--chat-template, or send a prompt instead of messages",
            )
        if reserved := sorted(_RESERVED & set(variables)):
            raise RequestError(
                [FieldError("chat_template_kwargs", "names of variables", f"chat_template_kwargs: {name} is taken")
                 for name in reserved]
            )  # fmt: skip
        template = self._template if not tools or self._tool_template is None else self._tool_template
        given = {**self._habits.variables(messages, tools, add_generation_prompt), **variables}
        try:
            parts = template.parts(given)
        except UnfitValue as fault:
            is_ours = fault.name not in variables
            field = ("tools" if fault.name == "tools" else "messages") if is_ours else "chat_template_kwargs"
            raise RequestError([FieldError(field, "valid values", f"{field}: {fault}")]) from None
        except TemplateFault as fault:
            does = "refuses these messages" if fault.is_refusal else "fails with these messages"
            raise _refusal(
                "what the chat template takes", f"the model's chat template {does}: {fault}"
            ) from None
        last = parts.pop() if begun and parts and isinstance(parts[-1], str) else ""
        return [*parts, f"{last}{begun}"] if begun else parts


def _refusal(constraint: str, message: str) -> RequestError:
    return RequestError([FieldError("messages", constraint, message)])
