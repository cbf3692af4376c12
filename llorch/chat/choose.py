"""Which chat template a model gets: the one that was asked for, that of its file, or a built-in one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from llorch.chat.builtin import BUILTIN, FALLBACK
from llorch.chat.jinja.program import MAX_SOURCE_CHARS
from llorch.chat.template import ChatTemplate
from llorch.errors import InputError, described
from llorch.formats.printed import printable
from llorch.text.tokenizer import Tokenizer

KEY = "tokenizer.chat_template"
"""The key of model files; ``.tool_use`` behind it is that of the template for requests with tools."""


def choose_chat_template(
    metadata: Mapping[str, object], tokenizer: Tokenizer, override: str | None = None
) -> tuple[ChatTemplate, str | None]:
    """The template, and what is worth a warning about it.

    Args:
        metadata: of the model file.
        tokenizer: the model's.
        override: name of a built-in template, path of a file that holds one, or a template itself.

    Raises:
        InputError: `override` is nothing of the kind, or cannot be used.
    """
    if override is not None:
        source, name = _read(override)
        template = ChatTemplate(source, tokenizer, name)
        if template.problem:
            raise InputError(f"chat_template: {name} cannot be used: {template.problem}")
        return template, None
    given, for_tools = metadata.get(KEY), metadata.get(f"{KEY}.tool_use")
    if given is None:
        note = f"the file has no chat template ({KEY}); {FALLBACK} is used"
        return ChatTemplate(BUILTIN[FALLBACK], tokenizer, FALLBACK), note
    if not isinstance(given, str):
        template = ChatTemplate("", tokenizer, KEY)
        template.problem = f"{KEY}: expected a string, got {described(given)}"
    else:
        template = ChatTemplate(given, tokenizer, KEY, for_tools if isinstance(for_tools, str) else None)
    if template.problem:
        return (
            template,
            f"the chat template cannot be used: {template.problem}; chat requests will be refused",
        )
    if template.tool_problem:
        return template, f"{KEY}.tool_use is not used: {template.tool_problem}"
    return template, None


def _read(override: str) -> tuple[str, str]:
    """Source and name of what `override` stands for."""
    if override in BUILTIN:
        return BUILTIN[override], override
    if "{{" in override or "{%" in override:
        return override, "the given text"
    path = Path(override)
    if not os.path.isfile(path):
        raise InputError(
            f"chat_template: {override[:200]!r} is no built-in template ({', '.join(BUILTIN)}), no file, and no Jinja"
        )
    try:
        with path.open("rb") as file:
            content = file.read(4 * MAX_SOURCE_CHARS + 1)
        return content.decode(), str(path)
    except OSError as error:
        raise InputError(
            f"chat_template: {printable(path)} cannot be read: {error.strerror or error}"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"chat_template: {printable(path)} is no UTF-8 text") from None
