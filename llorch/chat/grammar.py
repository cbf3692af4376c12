"""Grammars that bind what a model writes: JSON, tool calls, any Lark. All that llorch has of `llguidance`.

Why it and not `xgrammar` (0.2.8 beside llguidance 1.9.1, one CPU):

* its wheel, 3 MB for all Python versions, needs nothing else; `xgrammar` brings torch, transformers and triton, and
  takes 5 s and 680 MB to import, against 0.1 s and 20 MB;
* with 128,000 tokens a schema is compiled in 2 ms, against 80, and its masks take 0.05 ms, against 0.2; both need about
  1 s for the vocabulary;
* it refuses `uniqueItems`, `not`, `if` and look-around, which `xgrammar` takes without enforcing them;
* its work is bounded: `minLength` of 10**9 takes 2 ms, against 9 s; a pattern of many states 1 ms, against 3 s.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llorch.chat.closed_schema import closed_schema
from llorch.chat.schema_bounds import bounds_fault
from llorch.errors import ConstraintError, FieldError, RequestError
from llorch.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

INSTALL = 'pip install "llorch[grammar]"'

_JSON_OPTIONS = {"whitespace_pattern": r"( |\n[ \t]{0,20})?", "item_separator": ",", "key_separator": ":"}
"""White space is bounded: small models write spaces without end where a grammar lets them."""
_HEAD = '%llguidance {"no_forcing": true}'
"""Where only one text can follow, every way to spell it with tokens is allowed, not only the tokenizer's own."""
_MAX_REASON = 200
_PLACE = re.compile(r"^at \d+\(\d+\): |failed to compile JSON schema: ")
"""Where in the Lark text an error is, which nobody but llorch sees."""
_TOKEN_NUMBER = re.compile(r"<\[([0-9]{1,9})\]>")
_TOO_MANY = re.compile(r"^(the )?parser error: Too many items.*$", re.IGNORECASE)
_REGEX_FAULT = re.compile(r"^error: (.+)$", re.MULTILINE)
_MAX_TOKEN_BYTES = 250
"""Longer tokens are never allowed: llguidance's tree of tokens is not deep enough for them."""
_N_KEPT = 16
"""Grammars that are kept: a chat sends its tools with every turn, and 20 tools take 0.1 s."""


class GrammarConstraint:
    """The tokens that a grammar lets come next, for one generation. An `llorch.engine.constraint.Constraint`."""

    def __init__(self, matcher: LLMatcher, n_vocab: int) -> None:
        self._matcher = matcher
        self._mask = np.zeros((n_vocab + 31) // 32, np.uint32)

    def allowed(self) -> NDArray[np.uint32]:
        """One bit for each token; end-of-generation tokens have theirs where the text may end.

        Raises:
            ConstraintError: the grammar has become too complex at this place.
        """
        with _no_panic():
            self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        if self._matcher.is_error():
            raise ConstraintError(f"the grammar cannot go on: {_reason(self._matcher.get_error())}")
        return self._mask

    def accept(self, token_id: int) -> None:
        """Go on behind an allowed token.

        Raises:
            ConstraintError: it was not allowed.
        """
        with _no_panic():
            is_accepted = self._matcher.consume_token(token_id)
        if not is_accepted:
            raise ConstraintError(f"the grammar cannot go on: {_reason(self._matcher.get_error())}")


Factory = Callable[[], GrammarConstraint]


class Grammars:
    """Makes constraints for one vocabulary. Threads may share it; its work takes milliseconds: not for event loops.

    The vocabulary is prepared at the first use, or before: that takes 0.3 s for 49,000 tokens and 1 s for 128,000, and
    keeps the interpreter from doing anything else.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._prepared: LLTokenizer | None = None
        self._kept: OrderedDict[tuple[str, ...], LLMatcher] = OrderedDict()

    def prepare(self) -> None:
        """Do now what the first grammar would have to wait for; nothing where there can be none."""
        with suppress(RequestError):
            self._prepare("")

    def json_object(self, field: str = "response_format") -> Factory:
        """Any JSON object.

        Raises:
            RequestError: llguidance is not installed, or the model has no token that ends a text.
        """
        return self.json_schema({"type": "object"}, field=field)

    def json_schema(self, schema: Any, *, field: str, is_lenient: bool = False) -> Factory:
        """JSON that `schema` admits, its properties in the schema's order.

        Args:
            schema: a JSON value.
            field: name of the field that holds it, for errors.
            is_lenient: ignore keywords that grammars cannot enforce, instead of refusing them.

        Raises:
            RequestError: the schema is wrong, too large, or asks for what grammars cannot enforce; or as `json_object`.
        """
        return self.lark(json_rule(schema, field, is_lenient), (), field)

    def find_token(self, name: str, is_negated: bool) -> tuple[tuple[int, int], ...] | None:
        """The token that GBNF calls `name`, or all others; none of them ends a text.

        Source: llama.cpp, `src/llama-grammar.cpp`, `parse_token` and `llama_grammar_apply_impl`.

        Args:
            name: ``<[5]>``, or the text of a token, ``<think>``.
            is_negated: whether the others are meant.

        Returns:
            First and last ids of ranges; None if there is no such token.
        """
        vocab, number = self._tokenizer.vocab, _TOKEN_NUMBER.fullmatch(name)
        ids = [int(number[1])] if number else self._tokenizer.encode(name, add_bos=False, parse_special=True)
        if len(ids) != 1 or ids[0] >= vocab.n_vocab:
            return None
        if not is_negated:
            return None if ids[0] in vocab.eog_ids else ((ids[0], ids[0]),)
        edges = [-1, *sorted({ids[0], *vocab.eog_ids}), vocab.n_vocab]
        return tuple((low + 1, high - 1) for low, high in itertools.pairwise(edges) if high - low > 1)

    def lark(self, start: str, rules: Sequence[str], field: str, *, takes_space: bool = True) -> Factory:
        """What a grammar in llguidance's dialect of Lark admits.

        Args:
            start: what the whole text is.
            rules: those that `start` uses, made by llorch.
            field: name of the field that they were made of, for errors.
            takes_space: a space may stand in front of it where the vocabulary spells first words with one.

        Raises:
            RequestError: as `json_schema`.
        """
        prepared, n_vocab = self._prepare(field), self._tokenizer.vocab.n_vocab
        key = (start, *rules, *(["space"] if takes_space else []))
        with self._lock:
            matcher = self._kept.get(key)
        try:
            matcher = matcher or self._compiled(prepared, start, rules, takes_space)
        except ConstraintError as error:
            raise refusal(field, str(error)) from None
        with self._lock:
            self._kept[key] = matcher
            self._kept.move_to_end(key)
            if len(self._kept) > _N_KEPT:
                self._kept.popitem(last=False)
        return lambda: GrammarConstraint(matcher.deep_copy(), n_vocab)

    def _compiled(
        self, prepared: LLTokenizer, start: str, rules: Sequence[str], takes_space: bool
    ) -> LLMatcher:
        """A grammar that lets some text begin.

        Raises:
            ConstraintError: it is none, or lets none begin.
        """
        vocab = self._tokenizer.vocab
        matcher = _compiled(prepared, [f"start: {start}", *rules])
        if not GrammarConstraint(matcher.deep_copy(), vocab.n_vocab).allowed().any():
            raise ConstraintError("nothing satisfies it")
        if takes_space and vocab.add_space_prefix:
            matcher = _compiled(prepared, [f'start: " "? ({start})', *rules])
        return matcher

    def _prepare(self, field: str) -> LLTokenizer:
        with self._lock:
            if self._prepared is None:
                self._prepared = _prepare(self._tokenizer, field)
            return self._prepared


def json_rule(schema: Any, field: str, is_lenient: bool) -> str:
    """The part of a Lark grammar that stands for JSON of a schema; its objects have the properties that it names.

    Raises:
        RequestError: `schema` is no schema, or too large for one.
    """
    if not isinstance(schema, dict):
        raise refusal(field, "a schema is an object")
    if fault := bounds_fault(schema):
        raise refusal(field, fault)
    options = {**_JSON_OPTIONS, "lenient": is_lenient, "coerce_one_of": is_lenient}
    return "%json " + json.dumps({**closed_schema(schema), "x-guidance": options})


def _prepare(tokenizer: Tokenizer, field: str) -> LLTokenizer:
    try:
        from llguidance import LLTokenizer, TokenizerWrapper
    except ImportError:
        message = f"{field}: grammars are not installed here; {INSTALL} adds them"
        raise RequestError([FieldError(field, "grammars are installed", message)]) from None
    eog_ids = sorted(tokenizer.vocab.eog_ids)
    if not eog_ids:
        message = f"{field}: this model has no token that ends a text, so no grammar can end one"
        raise RequestError([FieldError(field, "an end-of-generation token", message)])
    wrapped = TokenizerWrapper(_Bytes(tokenizer))
    try:
        with _no_panic():
            return LLTokenizer(wrapped, n_vocab=tokenizer.vocab.n_vocab, eos_token=eog_ids)
    except (ConstraintError, ValueError) as error:
        message = f"{field}: there are no grammars for this model's vocabulary: {_reason(str(error))}"
        raise RequestError([FieldError(field, "a vocabulary for grammars", message)]) from None


def _compiled(prepared: LLTokenizer, rules: Sequence[str]) -> LLMatcher:
    from llguidance import LLMatcher, LLParserLimits

    # At most 5 ms a step and 20 MB for a generation, by the worst regular expressions that were found.
    limits = LLParserLimits(
        initial_lexer_fuel=300_000,
        step_lexer_fuel=100_000,
        step_max_items=20_000,
        max_items_in_row=1_000_000,  # at a lower one 1.9.1 does not come back from a mask
        max_lexer_states=10_000,
        verbose_errors=False,
    )
    try:
        with _no_panic():
            grammar = LLMatcher.grammar_from_lark("\n".join([_HEAD, *rules]))
            matcher = LLMatcher(prepared, grammar, log_level=0, limits=limits)
    except ValueError as error:
        raise ConstraintError(_reason(str(error))) from None
    if error_text := matcher.get_error():
        raise ConstraintError(_reason(error_text))
    return matcher


@contextmanager
def _no_panic() -> Iterator[None]:
    """A panic of Rust code derives from `BaseException`, and would end the thread like Ctrl-C.

    Raises:
        ConstraintError: in its place.
    """
    try:
        yield
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        raise ConstraintError("llguidance failed") from panic


class _Bytes:
    """A vocabulary as `TokenizerWrapper` wants it; the names are llguidance's."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocab = tokenizer.vocab
        self.eos_token_id = min(vocab.eog_ids)
        self.bos_token_id = vocab.bos_id
        self.special_token_ids = [
            i for i in range(vocab.n_vocab) if vocab.is_control(i) or i in vocab.eog_ids
        ]
        pieces = [tokenizer.token_bytes(i, special=True) for i in range(vocab.n_vocab)]
        self.tokens = [piece if len(piece) <= _MAX_TOKEN_BYTES else b"" for piece in pieces]
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_bos=False, add_eos=False)


def refusal(field: str, reason: str) -> RequestError:
    """The error for what a request asks for and no grammar can do."""
    message = f"{field}: cannot be enforced: {reason}"
    return RequestError([FieldError(field, "what a grammar can enforce", message)])


def _reason(error: str) -> str:
    """What llguidance says, in a line of printable characters; of a regular expression what is wrong with it."""
    line = next((line.strip() for line in error.splitlines() if line.strip()), "it failed")
    if fault := _REGEX_FAULT.search(error):
        line = f"invalid regex: {fault[1]}"
    line = _TOO_MANY.sub("too much may come next", _PLACE.sub("", line))
    return "".join(char for char in line if char.isprintable())[:_MAX_REASON]
