"""What one model has for answers of a given structure: grammars, and its way to write calls of tools."""

from __future__ import annotations

from llorch.chat.grammar import Grammars
from llorch.chat.template import ChatTemplate
from llorch.chat.tool_format import tool_format_of
from llorch.text.tokenizer import Tokenizer


class ModelStructure:
    """Belongs to an open model. Threads may share it.

    Attributes:
        grammars: bind answers.
        tool_format: how the model writes calls; None if its template teaches no form that llorch knows.
        marks: control tokens around calls, by their texts, which must be visible in an answer.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        """Set up, and prepare the grammars if llguidance is there: no request shall wait for that.

        Args:
            tokenizer: the model's.
            template: the model's.
        """
        self.grammars = Grammars(tokenizer)
        self.grammars.prepare()
        self.tool_format = tool_format_of(template)
        self.marks = {} if self.tool_format is None else self.tool_format.control_marks(tokenizer.vocab)
