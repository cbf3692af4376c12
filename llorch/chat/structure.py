"""What one model has for answers of a given structure: grammars, and its way to write calls of tools."""

from __future__ import annotations

from llorch.chat.grammar import Grammars
from llorch.chat.template import ChatTemplate
from llorch.chat.tool_format import tool_format_of
from llorch.text.tokenizer import Tokenizer


class ModelStructure:
    """Belongs to an open model. Threads may share it.

    Attributes:
        vocab: the model's.
        grammars: bind answers.
        tool_format: how the model writes calls; None if its template teaches no form that llorch knows.
        shown_ids: control tokens that must be visible in an answer with calls.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        """Set up, and prepare the grammars if llguidance is there: no request shall wait for that.

        Args:
            tokenizer: the model's.
            template: the model's.
        """
        self.vocab = tokenizer.vocab
        self.grammars = Grammars(tokenizer)
        self.grammars.prepare()
        self.tool_format = tool_format_of(template)
        self.shown_ids = frozenset[int]()
        if self.tool_format is not None:
            self.shown_ids = self.tool_format.shown_ids(tokenizer.vocab)
