"""Grammars, expressions and choices from strangers: refused in words or compiled, in bounded time, steps too."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
import pytest

from llorch.chat.gbnf.parse import MAX_DEPTH, MAX_RULES
from llorch.chat.grammar import Grammars
from llorch.chat.text_rule import MAX_CHOICES, TextRule
from llorch.errors import ConstraintError, RequestError
from tests.support.constraints import real_tokenizer

BUILD_S = 5.0
STEP_S = 1.0
"""CPU time, far above what was measured (0.6 s and 0.2 s): the bound is there so that nothing explodes."""

Kind = Literal["grammar", "regex", "choice"]
LAST = f"r{MAX_RULES - 2}"


def chain(link: str, end: str, n: int = MAX_RULES - 2) -> str:
    rules = [f"r{i} ::= " + link.replace("next", f"r{i + 1}") for i in range(n)]
    return "\n".join([*rules, f"r{n} ::= {end}", "root ::= r0"])


def alternatives(n: int, one: str) -> str:
    return f"root ::= ({' | '.join(one.replace('LAST', chr(98 + i % 24)) for i in range(n))})"


GRAMMARS: dict[str, str] = {
    "doubling": chain("next next", '"a"', 60),
    "doubling what may be missing": chain("next? next?", '"a"', 60),
    "doubling with recursion": chain("next? next?", '"a" | "(" root ")"', 60),
    "a long chain": chain('next "x"?', '"a"'),
    "a long chain with recursion": chain('next "x"?', '"a" | "(" root ")"'),
    "a long chain of groups": chain("(" * 8 + '"x" next' + ' "y")?' * 8, '"a"'),
    "a long chain of groups with recursion": chain("(" * 8 + '"x" next' + ' "y")?' * 8, '"a" | "(" root ")"'),
    "as deep as may be": chain('("x" next?)*', '"a"', 90),
    "a chain of nothing": chain('next | "a" root?', '""', 400),
    "a ring": "\n".join(f'r{i} ::= r{(i + 1) % 400} | r{(i + 7) % 400} [a-z]* | "x"' for i in range(400))
    + "\nroot ::= r0",
    "a ring of nothing": "\n".join(
        f"r{i} ::= root? r{(i + 1) % 400}? r{(i * 7 + 1) % 400}?" for i in range(400)
    )
    + '\nroot ::= "a" | r0 | r1 | r2',
    "recursion on both sides": 'root ::= root root | [a-z ] | ""',
    "recursion in three places": 'root ::= root root root | [a-z ] | ""',
    "recursion without a text": "root ::= x\nx ::= y\ny ::= x",
    "recursion without an end": 'root ::= "a" root',
    "nothing, repeated": 'root ::= (((root? root?)* root?)+ | "")* "a"?',
    "repetition of repetition": 'root ::= (((("a"{0,2000}){0,2000}){0,2000}){0,2000}){0,2000}',
    "repetition of anything": "root ::= ((.{0,2000}){0,2000}){0,2000}",
    "repetition with recursion": "root ::= " + " ".join(["((root? [a-z]*){200}){200}"] * 150),
    "repetition with recursion, too often": 'root ::= (("a" root "b"){0,2000}){0,2000}',
    "many states": 'root ::= (.* "a"){30} .{30}',
    "many states with recursion": 'root ::= (.* "a"){30} .{30} root?',
    "palindromes": 'root ::= "a" root "a" | "b" root "b" | [a-z ] root [a-z ] | ""',
    "many ways at once": alternatives(1200, "[a-LAST]* root?"),
    "as many ways as there may be": alternatives(190, "[a-LAST]* root?"),
    "many words": alternatives(1600, '"wordLAST"'),
    "many words with recursion": alternatives(1500, '"wordLAST" root?'),
    "a long word": f'root ::= "{"ab" * 4900}"',
    "a long word with recursion": f'root ::= "{"ab" * 4900}" root?',
    "many sets": "root ::= ("
    + " | ".join(f"[\\U{i * 97 + 256:08x}-\\U{i * 97 + 400:08x}]+ root" for i in range(400))
    + ")?",
    "groups in groups": "root ::= " + "(" * MAX_DEPTH + '"a"' + ")*" * MAX_DEPTH,
    "groups in groups with recursion": "root ::= " + "(" * MAX_DEPTH + '"a" root?' + ")*+?" * MAX_DEPTH,
    "too many groups": "root ::= " + "(" * 20_000,
    "too many signs": 'root ::= "a"' + "*" * 20_000,
    "too many rules": "\n".join(f'r{i} ::= "a"' for i in range(4_000)),
    "too many characters": f'root ::= "{"a" * 30_000}"',
    "a great number": 'root ::= "a"{99999999999999999999}',
    "spaces": "root ::= " + " " * 60_000,
    "comments": "#\n" * 30_000,
    "line ends": "\n" * 60_000 + "root",
    "no character": 'root ::= "\x00\x01\x7f" [\x00-\x1f]',
    "tokens": "root ::= " + "(<s> | <[5]> | !<[6]>)* [a-z]+ " * 200,
    "tokens with recursion": alternatives(150, "!<[300]> [a-LAST]* <[5]> root?"),
    "any tokens but one, often": "root ::= " + "(!<[5]>){200} " * 300,
    "a token without an end": "root ::= " + "<" * 20_000,
    "a long token": f"root ::= <{'x' * 20_000}>",
    "Lark": 'start: "a" %json {}\n%llguidance {}',
    "Lark in a comment": 'root ::= "a" # \nx ::= "\\n%import x" | "/" "\\"" [/]',
}
REGEXES: dict[str, str] = {
    "nested quantifiers": "((a+)+)+$",
    "counted": "((a{0,999}){0,999}){0,999}",
    "anything, counted": "(.*a){30}.{30}",
    "letters": r"\p{L}{1,500}\w{1,500}",
    "a classic": "(x+x+)+y",
    "groups": "(" * 1900 + ")" * 1900,
    "alternatives": "|".join(f"a{i}.*b" for i in range(400)),
    "a lone bracket": "[",
    "a lone escape": "\\",
    "Lark": "a/ | %json {}",
    "flags": "(?ix) a # b",
    "line ends": "a\n/\nb",
    "no character": "\x00\\\x00",
}  # fmt: skip
CHOICES: dict[str, list[str]] = {
    "as many as there may be": [f"choice number {i}" for i in range(MAX_CHOICES)],
    "as long as they may be": [f"{i:04000}" for i in range(50)],
    "signs": ["/", "\\", '"', "\n", "\x00", "|", "(", "%json {}", "é\U0001f600"],
    "beginnings of one another": ["a" * n for n in range(1, 600)],
}
ALL: list[tuple[Kind, str, Any]] = [
    *(("grammar", name, value) for name, value in GRAMMARS.items()),
    *(("regex", name, value) for name, value in REGEXES.items()),
    *(("choice", name, value) for name, value in CHOICES.items()),
]


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    made = Grammars(real_tokenizer("ggml-vocab-llama-spm.gguf"))
    made.json_object()  # prepares the vocabulary
    return made


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("kind", "name", "value"), ALL, ids=[f"{kind}: {name}" for kind, name, _ in ALL])
def test_a_rule_is_refused_in_a_line_or_compiled_and_no_step_takes_long(
    grammars: Grammars, kind: Kind, name: str, value: Any
) -> None:
    rule = TextRule(kind, value, "field")
    assert rule.is_valid, name
    begun_s = time.process_time()
    try:
        constraint = rule.constraint(grammars)()
    except RequestError as error:
        assert time.process_time() - begun_s < BUILD_S
        (fault,) = error.errors
        assert fault.message.startswith("field: cannot be enforced: ")
        assert fault.message.isprintable()
        assert len(fault.message) < 300
        return
    assert time.process_time() - begun_s < BUILD_S
    rng = np.random.default_rng(0)
    for _ in range(30):
        begun_s = time.process_time()
        try:
            ids = np.unpackbits(constraint.allowed().view(np.uint8), bitorder="little").nonzero()[0]
            if len(ids) < 2:
                return
            constraint.accept(int(ids[rng.integers(1, len(ids))]))
        except ConstraintError:  # bounded: the generation fails
            return
        assert time.process_time() - begun_s < STEP_S
