"""Schemas from strangers: refused in words or compiled, in bounded time, and never the end of the process."""

from __future__ import annotations

import bisect
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llorch.chat.grammar import Grammars
from llorch.chat.schema_bounds import (
    MAX_DEPTH,
    MAX_NAMES,
    MAX_REFERENCE_PATH,
    MAX_TEXT,
    MAX_TOTAL_TEXT,
    MAX_VALUES,
    bounds_fault,
)
from llorch.errors import ConstraintError, RequestError
from tests.support.constraints import real_tokenizer

BUILD_S = 5.0
STEP_S = 0.5
"""CPU time, far above what was measured (0.4 s and 0.03 s): the bound is there so that nothing explodes."""


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def chained(n: int, link: Callable[[dict[str, Any]], dict[str, Any]] = lambda ref: ref) -> dict[str, Any]:
    """A chain of `n` references, each behind what `link` makes of it."""
    names = {f"d{i}": link({"$ref": f"#/$defs/d{i + 1}"}) for i in range(n)}
    return {"$ref": "#/$defs/d0", "$defs": {**names, f"d{n}": {"type": "string"}}}


def as_object(reference: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": reference}, "required": ["a"]}


def doubled(n: int) -> dict[str, Any]:
    return chained(
        n, lambda ref: {"allOf": [{"anyOf": [ref, {"minimum": 1}]}, {"anyOf": [ref, {"maximum": 9}]}]}
    )


REFUSED: dict[str, tuple[Any, str]] = {
    "no object": ([], "a schema is an object"),
    "nesting": (nested(10_000), "levels of nesting"),
    "a value too many": ({"enum": list(range(MAX_VALUES))}, "values"),
    "a long literal": ({"const": "x" * (MAX_TEXT + 1)}, "characters in one string"),
    "long literals": ({"enum": [f"{i:0{MAX_TEXT}}" for i in range(60)]}, "all strings together"),
    "a lone surrogate": ({"const": "\ud800"}, "valid Unicode"),
    "a chain of references": (chained(380, as_object), "references"),
    "a reference to itself": ({"$ref": "#"}, "cannot be enforced"),
    "two references to each other": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "cannot be enforced",
    ),
    "a remote reference": ({"$ref": "http://127.0.0.1:9/schema"}, "retrieving it failed"),
    "a file": ({"$ref": "file:///etc/passwd"}, "retrieving it failed"),
    "a missing definition": ({"$ref": "#/$defs/x"}, "does not exist"),
    "combinations without end": (doubled(14), "too large"),
    "properties without end": (
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(MAX_NAMES + 1)}},
        "names in one object",
    ),
    "an unknown type": ({"type": "banana"}, "banana"),
    "a type that is a number": ({"type": 5}, "type must be"),
    "properties that are a list": ({"properties": []}, "properties"),
    "a negative length": ({"type": "string", "minLength": -1}, "minLength"),
    "an enormous count": ({"type": "array", "minItems": 2 * 10**19}, "minItems"),
    "enormous bounds": ({"type": "integer", "minimum": -(10**300), "maximum": 10**300}, "range"),
    "nothing fits": ({"type": "integer", "minimum": 5, "maximum": 3}, "cannot be enforced"),
    "an empty enum": ({"enum": []}, "cannot be enforced"),
    "an open bracket": ({"type": "string", "pattern": "["}, "regex"),
    "look-around": ({"type": "string", "pattern": "(?=a)b"}, "regex"),
    "a back-reference": ({"type": "string", "pattern": "\\1(a)"}, "regex"),
    "a nest of groups": ({"type": "string", "pattern": "(" * 1900 + ")" * 1900}, "regex"),
}
TAKEN: dict[str, Any] = {
    "long strings": {"type": "string", "minLength": 10**9},
    "long arrays": {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
    "nested repetition": {"type": "string", "pattern": "^((a|b){1,1000}){1,1000}$"},
    "a classic of backtracking": {"type": "string", "pattern": "^(a+)+$"},
    "many states": {"type": "string", "pattern": "^(.*a){30}.{30}$"},
    "large classes": {"type": "string", "pattern": "\\p{L}{1,500}\\w{1,500}"},
    "a large enum": {"enum": [f"value {i}" for i in range(5000)]},
    "many properties": {
        "type": "object",
        "properties": {f"p{i}": {"type": "string"} for i in range(MAX_NAMES)},
    },
    "recursion": {"type": "object", "properties": {"next": {"$ref": "#"}}},
    "a long chain": chained(MAX_REFERENCE_PATH // 3),
    "a chain of objects": chained(MAX_REFERENCE_PATH // 5, as_object),
    "depth": nested(MAX_DEPTH // 2),
    "overlapping patterns": {
        "type": "object",
        "patternProperties": {f"^{c}.*{c}$": {"type": "string"} for c in "abcdefgh"},
    },
}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    made = Grammars(real_tokenizer("ggml-vocab-llama-spm.gguf"))
    made.json_object()  # prepares the vocabulary
    return made


@pytest.mark.parametrize("name", REFUSED)
def test_bad_schemas_are_refused_in_one_line_that_names_the_field(grammars: Grammars, name: str) -> None:
    schema, words = REFUSED[name]
    begun_s = time.process_time()
    with pytest.raises(RequestError) as refused:
        grammars.json_schema(schema, field="response_format.json_schema.schema")
    assert time.process_time() - begun_s < BUILD_S
    (fault,) = refused.value.errors
    assert fault.field == "response_format.json_schema.schema"
    assert fault.message.startswith(f"{fault.field}: cannot be enforced: ")
    assert words in fault.message
    assert fault.message.isprintable()
    assert len(fault.message) < 400


@pytest.mark.parametrize("name", TAKEN)
def test_large_schemas_are_compiled_and_no_step_takes_long(grammars: Grammars, name: str) -> None:
    begun_s = time.process_time()
    constraint = grammars.json_schema(TAKEN[name], field="schema")()
    assert time.process_time() - begun_s < BUILD_S
    rng = np.random.default_rng(0)
    for _ in range(40):
        begun_s = time.process_time()
        try:
            ids = np.unpackbits(constraint.allowed().view(np.uint8), bitorder="little").nonzero()[0]
        except ConstraintError:  # bounded: the generation fails
            return
        assert time.process_time() - begun_s < STEP_S
        if len(ids) < 2:
            return
        constraint.accept(int(ids[rng.integers(1, len(ids))]))


def test_what_the_bounds_let_pass_does_not_overflow_the_stack_of_a_thread() -> None:
    """In a process of its own, which an overflow would end; with the worst links of chains that were found."""
    program = (
        "import json, sys, threading\n"
        "from llguidance import LLMatcher\n"
        "def build():\n"
        "    for line in sys.stdin:\n"
        "        LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(line))\n"
        "thread = threading.Thread(target=build)\n"
        "thread.start()\n"
        "thread.join()\n"
        "print('alive')\n"
    )
    links: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
        lambda ref: ref,
        as_object,
        lambda ref: {"type": "array", "items": ref},
        lambda ref: {
            "allOf": [{"anyOf": [{"allOf": [{"anyOf": [ref, {"type": "null"}]}]}, {"type": "null"}]}]
        },
    ]
    lines = []
    for link in links:
        n = bisect.bisect_left(
            range(2000), True, key=lambda n: bounds_fault(chained(n + 1, link)) is not None
        )
        assert 50 < n < MAX_NAMES
        lines.append(json.dumps(chained(n, link)))
    done = subprocess.run(
        [sys.executable, "-c", program], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    assert done.stdout == "alive\n", done.stderr


def test_the_bounds_look_at_each_value_once() -> None:
    wide = [{f"d{i}": {"$ref": f"#/{k}/d{i % 7}"} for i in range(MAX_NAMES)} for k in range(20)]
    begun_s = time.process_time()
    assert bounds_fault(wide) is None
    assert bounds_fault({"enum": ["x" * 100] * (MAX_TOTAL_TEXT // 100 - 1)}) is None
    assert time.process_time() - begun_s < 1.0
