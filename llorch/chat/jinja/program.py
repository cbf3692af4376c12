"""A template, compiled: from its source to texts, with every fault as one error that names the line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from jinja2 import Template, TemplateSyntaxError, meta
from jinja2.nodes import Template as Tree

from llorch.chat.jinja.budget import MAX_CHARS, LimitError, new_budget
from llorch.chat.jinja.environment import ChatEnvironment, TemplateRefusal
from llorch.chat.jinja.rewrite import forbidden_line, literals, metered
from llorch.errors import LlorchError

MAX_SOURCE_CHARS = 64 << 10
"""Four times the longest template in use; so much is compiled in a few seconds."""

_MAX_MESSAGE_CHARS = 300


class TemplateFault(LlorchError):
    """A template cannot be compiled, or its rendering fails.

    Attributes:
        is_refusal: the template itself refuses what it was given, with `raise_exception`.
        is_limit: it does too much.
    """

    def __init__(
        self, message: str, line: int | None = None, *, is_refusal: bool = False, is_limit: bool = False
    ) -> None:
        clean = " ".join(message.split())
        clean = "".join(c if c.isprintable() else "?" for c in clean[: _MAX_MESSAGE_CHARS + 1])
        clean = clean if len(clean) <= _MAX_MESSAGE_CHARS else clean[:_MAX_MESSAGE_CHARS] + "..."
        super().__init__(clean if line is None else f"line {line}: {clean}")
        self.is_refusal = is_refusal
        self.is_limit = is_limit


class Program:
    """A compiled template. Read-only: threads may share it.

    Attributes:
        names: of the variables that the template asks for.
        words: its own texts, and the names that it looks up.
    """

    def __init__(self, source: str, marked: Callable[[frozenset[str]], Callable[[str], str]]) -> None:
        """Compile `source`.

        Args:
            source: Jinja.
            marked: given all texts of the template's own, what changes each of them.

        Raises:
            TemplateFault: it is too long, no Jinja, or needs what there is not.
        """
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateFault(f"it has {len(source)} characters, {MAX_SOURCE_CHARS} are possible")
        self._environment = ChatEnvironment()
        try:
            with new_budget():
                tree = self._environment.parse(source)
                if line := forbidden_line(tree):
                    raise TemplateFault("it asks for another template, or for a block of one", line)
                self.names = frozenset(meta.find_undeclared_variables(tree))
                self.words = frozenset(literals(tree))
                self._template = self._compiled(metered(tree, marked(self.words)))
        except TemplateSyntaxError as error:
            raise TemplateFault(error.message or "it is no Jinja", error.lineno) from None
        except TemplateFault:
            raise
        except RecursionError:
            raise TemplateFault("its parts are nested too deep") from None
        except Exception as error:
            raise TemplateFault(f"{type(error).__name__}: {error}") from None

    def run(self, variables: Mapping[str, Any]) -> str:
        """The text that the template makes of `variables`.

        Raises:
            TemplateFault: it cannot, will not, or takes too much.
        """
        with new_budget() as budget:
            try:
                pieces: list[str] = []
                n_chars = 0
                for piece in self._template.root_render_func(self._template.new_context(dict(variables))):
                    n_chars += len(piece)
                    if n_chars > MAX_CHARS:
                        raise LimitError(f"it writes more than {MAX_CHARS} characters")
                    budget.charge(len(piece))
                    pieces.append(piece)
                return "".join(pieces)
            except TemplateRefusal as refusal:
                raise TemplateFault(str(refusal), is_refusal=True) from None
            except LimitError as error:
                raise TemplateFault(str(error), self._line(error.__traceback__), is_limit=True) from None
            except RecursionError as error:
                raise TemplateFault("it calls itself too often", self._line(error.__traceback__)) from None
            except Exception as error:
                message = f"{type(error).__name__}: {error}"
                raise TemplateFault(message, self._line(error.__traceback__)) from None

    def _compiled(self, tree: Tree) -> Template:
        code = self._environment.compile(tree, filename="<chat template>")
        return Template.from_code(self._environment, code, self._environment.make_globals(None))

    def _line(self, trace: TracebackType | None) -> int | None:
        """Line of the template that an error comes from."""
        line = None
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "<chat template>":
                line = self._template.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return line
