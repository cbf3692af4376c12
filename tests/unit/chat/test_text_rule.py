"""Grammars, expressions and choices: which texts fit them, and how faulty ones are refused."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import pytest

from llorch.chat.gbnf.lark import lark_of_gbnf
from llorch.chat.grammar import Grammars
from llorch.chat.text_rule import MAX_CHOICES, TextRule
from llorch.errors import RequestError
from llorch.text.tokenizer import Tokenizer
from tests.support.constraints import allowed_ids, is_whole, real_tokenizer
from tests.support.vocabularies import make_tokenizer

JSON = r"""
# JSON, with white space as small models need it
root   ::= value
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( char )* "\"" ws
char   ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,3})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""
SUMS = 'root ::= (expr "=" ws term "\\n")+\nexpr ::= term ([-+*/] ws term)*\n' \
    'term ::= ident | num | "(" ws expr ")" ws\n' \
    "ident ::= [a-z] [a-z0-9_]* ws\nnum ::= [0-9]+ ws\nws ::= ([ \\t\\n] ws)?\n"  # fmt: skip
MOVES = 'root ::= "1. " move " " move "\\n" ([1-9] [0-9]? ". " move " " move "\\n")*\n' \
    'move ::= (pawn | piece | "O-O" "-O"?) [+#]?\npiece ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]\n' \
    'pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?\n'  # fmt: skip
FITTING: dict[str, tuple[str, list[str], list[str]]] = {
    "json": (JSON,
        ['{"a": [1, -2.5e+3, "x\\n\\u00e9 \\" y", null, true]}', "[]", '"é日"'], ['{"a" 1}', "01", '"a', ""]),
    "sums": (SUMS, ["a=1\n", "ab3 + (c*2 )= 7\nx=y\n"], ["a=1", "a+=1\n", "(a=1\n"]),
    "moves": (MOVES, ["1. e4 e5\n", "1. Nf3 O-O-O+\n2. exd5 e8=Q#\n"], ["1. e9 e5\n", "1. e4 e5"]),
    "a list": (r'root ::= item+' "\n" r'item ::= "- " [^\r\n\x0b\x0c\x85\u2028\u2029]+ "\n"',
        ["- a\n- b c\n"], ["- \n", "-a\n"]),
    "japanese": ("root ::= c+ ([ \\t\\n] c+)*\nc ::= [ぁ-ゟ] | [ァ-ヿ] | [、-〾] | [一-鿿]",
        ["こんにちは 世界"], ["a", "こ "]),
    "escapes": (r'root ::= "\x41\u00e9\U0001F600\t\"\\" [\]\[-] "]"', ['Aé😀\t"\\-]', 'Aé😀\t"\\]]'], ["A"]),
    "hyphens that make no range": (r'root ::= [a\-c]+ "\-"', ["a-c-", "--"], ["b-", "a"]),
    "any character": ("root ::= . .", ["a\n", "日b"], ["a", "abc"]),
    "counts": ("root ::= [a-c]{2} [0-9]{2,} ([x-z] [-]){1,2}",
        ["ab12x-", "cc123y-z-"], ["a12x-", "ab1x-", "ab12x-y-z-"]),
    "the last rule of a name": ('root ::= "a"\nroot ::= "b"', ["b"], ["a"]),
    "Windows's line ends": ('root ::= x # c\r\n\r\nx ::= "a" |\r\n  "b"\r\n', ["a", "b"], ["c"]),
    "nothing": ("root ::= ", [""], ["a"]),
    "recursion on the left": ('root ::= root "," item | item\nitem ::= "(" root ")" | [a-z]+',
        ["a,(b,c),d"], [",a", "a,"]),
    "hidden recursion on the left": ('root ::= x? root "a" | "b"\nx ::= "c"', ["b", "baa", "cba"], ["a"]),
    "what overlaps, without recursion": ('root ::= [a-z]* "ing"', ["inking", "inging", "ing"], ["inx", "in"]),
    "what overlaps, with recursion": ('root ::= "(" root ")" | [a-z]* "ing"', ["((inking))", "ing"], ["(ing", "(xx)"]),
    "runs side by side": ('root ::= "(" root ")" | [a-z]+ [a-z]{2,3} "."', ["(abc.)", "abcdefg."], ["ab.", "(abc)"]),
    "a word or a name": ('root ::= "(" root ")" | "int" | [a-z] [a-z]*', ["int", "inx", "(integer)"], ["()"]),
    "a loop of runs": ('root ::= "<" ([^<>]+ | root)* ">"', ["<>", "<a b<c><<>>d>"], ["<", "<a>>"]),
    "as many of one as of the other": ('root ::= [a-b]+ root "c" | "d"', ["aabdc", "abdcc", "d"], ["adcc", "abd"]),
}  # fmt: skip
FAULTY: dict[str, tuple[str, str]] = {
    "no root": ('x ::= "a"', "no rule is called root"),
    "no rules": ("# nothing", "no rule is called root"),
    "no such rule": ('root ::= "a"\n  nothing', "line 2, column 10: expected ::="),
    "an unknown name": ('root ::= "a" |\n  nothing', "line 2, column 3: no rule is called nothing"),
    "an open literal": ('root ::= "a', "line 1, column 10: the end of the literal is missing"),
    "an open set": ("root ::= [a", "column 10: the end of the set is missing"),
    "an open group": ('root ::= ("a"', "column 14: expected an item or )"),
    "a closed group": ('root ::= "a")', "column 13: expected an item of a rule"),
    "an empty set": ("root ::= []", "column 10: a set without characters"),
    "a range backwards": ("root ::= [z-a]", "column 10: a range"),
    "an unknown escape": (r'root ::= "\q"', "column 11: an escape is"),
    "a surrogate": (r'root ::= "\ud800"', "column 11: no character"),
    "a number too large": (r'root ::= "\U00110000"', "column 11: no character"),
    "counts backwards": ('root ::= "a"{3,2}', "column 13: fewer"),
    "no counts": ('root ::= "a"{x}', "column 13: expected {m}"),
    "an unknown token": ("root ::= <think>", "column 10: the vocabulary has no such token"),
}


@pytest.fixture
def tokenizer() -> Tokenizer:
    return real_tokenizer("stories260K-q8_0.gguf")


def fits(tokenizer: Tokenizer, kind: Literal["grammar", "regex", "choice"], value: Any, text: str) -> bool:
    return is_whole(TextRule(kind, value, "field").constraint(Grammars(tokenizer))(), tokenizer, text)


@pytest.mark.parametrize("name", FITTING)
def test_a_grammar_takes_just_its_texts(tokenizer: Tokenizer, name: str) -> None:
    grammar, good, bad = FITTING[name]
    assert [text for text in good if not fits(tokenizer, "grammar", grammar, text)] == []
    assert [text for text in bad if fits(tokenizer, "grammar", grammar, text)] == []


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_grammar_is_refused_with_the_place(tokenizer: Tokenizer, name: str) -> None:
    grammar, words = FAULTY[name]
    with pytest.raises(RequestError, match=re.escape(words)) as refused:
        TextRule("grammar", grammar, "guided_grammar").constraint(Grammars(tokenizer))
    (fault,) = refused.value.errors
    assert fault.field == "guided_grammar"


def test_contents_of_strings_are_read_as_wholes() -> None:
    """Not character by character, which would take a hundred times as long with a large vocabulary."""
    _, rules = lark_of_gbnf(JSON, lambda *_: None)
    runs = [rule for rule in rules if rule.startswith("C") and rule.endswith("]+/")]
    assert len(runs) == 2  # of strings, and digits behind a point
    assert r"\x{10ffff}" in "".join(runs)


@pytest.mark.parametrize(
    ("regex", "good", "bad"),
    [
        (r"\d{3}-\d{4}", ["555-1234"], ["5551234", "555-123"]),
        (r"^(yes|no)$", ["yes", "no"], ["", "yesno"]),
        (r"[a-z]+@[a-z]+\.com", ["tom@b.com"], ["tom@b,com"]),
        ("a/[/]b|\\/c", ["a//b", "/c"], ["a/b"]),
        ("a\nb|.", ["a\nb", "é"], ["\n"]),
        ("(?i)ok", ["OK", "oK"], ["k"]),
    ],
)
def test_an_expression_takes_just_its_texts(
    tokenizer: Tokenizer, regex: str, good: list[str], bad: list[str]
) -> None:
    assert [text for text in good if not fits(tokenizer, "regex", regex, text)] == []
    assert [text for text in bad if fits(tokenizer, "regex", regex, text)] == []


@pytest.mark.parametrize(
    ("regex", "words"),
    [("(", "unclosed group"), ("a{3,", "unclosed"), ("(?=a)b", "look"), (r"\1", "backreferences"), ("a\\", "escape")],
)  # fmt: skip
def test_a_faulty_expression_is_refused_in_words(tokenizer: Tokenizer, regex: str, words: str) -> None:
    with pytest.raises(RequestError, match=f"^guided_regex: cannot be enforced: .*{words}"):
        TextRule("regex", regex, "guided_regex").constraint(Grammars(tokenizer))


def test_a_choice_is_one_of_the_texts(tokenizer: Tokenizer) -> None:
    choices = ["red", "redder", "a.b", 'say "é"', "two\nlines", "/"]
    for text in choices:
        assert fits(tokenizer, "choice", choices, text)
    for text in ("re", "a,b", " red", "redred", ""):
        assert not fits(tokenizer, "choice", choices, text)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("grammar", 5), ("grammar", ["a"]), ("grammar", "x" * 65_537), ("grammar", "\ud800"), ("regex", None),
        ("regex", "x" * 4001), ("choice", "a"), ("choice", []), ("choice", [""]), ("choice", ["a", 5]),
        ("choice", ["x" * 4001]), ("choice", ["a"] * (MAX_CHOICES + 1)), ("choice", ["x" * 3000] * 100),
    ],
)  # fmt: skip
def test_values_of_another_form_are_not_valid(
    kind: Literal["grammar", "regex", "choice"], value: Any
) -> None:
    assert not TextRule(kind, value, "field").is_valid


def test_tokens_of_many_characters_are_allowed_where_all_of_them_fit() -> None:
    tokenizer = make_tokenizer(["ab", "ba", "abc"])
    constraint = TextRule("grammar", 'root ::= "(" root ")" | [ab]+', "grammar").constraint(
        Grammars(tokenizer)
    )()
    spelt = {tokenizer.token_bytes(i) for i in allowed_ids(constraint, 262)}
    assert spelt == {b"(", b"a", b"b", b"ab", b"ba"}


@pytest.mark.parametrize("seed", range(3))
def test_random_texts_of_an_expression_fit_it(tokenizer: Tokenizer, seed: int) -> None:
    regex = r"[A-Z][a-z]{0,9}( [a-z]{1,5}){2,4}[.!?]"
    constraint = TextRule("regex", regex, "regex").constraint(Grammars(tokenizer))()
    rng, token_ids = np.random.default_rng(seed), list[int]()
    while not tokenizer.vocab.eog_ids.issubset(ids := allowed_ids(constraint, 512)):
        token_ids.append(int(rng.choice(ids)))
        constraint.accept(token_ids[-1])
    text = b"".join(map(tokenizer.token_bytes, token_ids)).decode()
    assert re.fullmatch(regex, text)
