"""Templates from strangers' files: none runs for long, fills the memory, or reaches outside its sandbox."""

from __future__ import annotations

import re
import time
import tracemalloc

import pytest

from llorch.chat.jinja.budget import MAX_CHARS
from llorch.chat.jinja.program import MAX_SOURCE_CHARS, Program, TemplateFault
from llorch.chat.template import ChatTemplate
from llorch.errors import RequestError
from tests.support.chat import chat_tokenizer

MOST_CPU_S = 20.0
"""Far more than any of these may take, so that a busy machine cannot fail them; an endless one would."""

MOST_BYTES = 600 << 20

ENDLESS = {
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "loops that never enter their body": "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}"
    "{% endfor %}",
    "a long range": "{% for a in range(10 ** 12) %}{% endfor %}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "a recursive loop": "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "a caller that calls": "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g(n) %}{% call f() %}{{ g(n) }}"
    "{% endcall %}{% endmacro %}{{ g(1) }}",
    "100 MB of output": "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "much output in a block": "{% set a %}{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}{% endset %}",
    "a product of a string": "{{ 'a' * 10 ** 9 }}",
    "a product of a list": "{{ [1] * 10 ** 9 }}",
    "a product the other way": "{{ 10 ** 9 * 'a' }}",
    "a sum that doubles": "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}"
    "{% endfor %}",
    "a concatenation that doubles": "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}"
    "{% endfor %}",
    "a block that doubles": "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set x %}{{ n.s }}{{ n.s }}"
    "{% endset %}{% set n.s = x %}{% endfor %}",
    "a list that doubles": "{% set n = namespace(s=['ab']) %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}"
    "{% endfor %}{{ n.s }}",
    "a tuple that doubles": "{% set n = namespace(s=('ab',)) %}{% for i in range(60) %}{% set n.s = (n.s, n.s) %}"
    "{% endfor %}{{ n.s == n.s }}",
    "a dictionary that doubles": "{% set n = namespace(s={}) %}{% for i in range(60) %}{% set n.s = {1: n.s, 2: n.s} %}"
    "{% endfor %}{{ n.s | tojson }}",
    "dict() that doubles": "{% set n = namespace(s={}) %}{% for i in range(60) %}{% set n.s = dict(a=n.s, b=n.s) %}"
    "{% endfor %}{{ n.s | string }}",
    "arguments that double": "{% set n = namespace(s=1) %}{% macro f() %}{% set n.s = varargs %}{% endmacro %}"
    "{% for i in range(60) %}{{ f(n.s, n.s) }}{% endfor %}{{ n.s }}",
    "keywords that double": "{% set n = namespace(s=1) %}{% macro f() %}{% set n.s = kwargs %}{% endmacro %}"
    "{% for i in range(60) %}{{ f(a=n.s, b=n.s) }}{% endfor %}{{ n.s }}",
    "batches that double": "{% set n = namespace(s=1) %}{% for i in range(60) %}{% for r in [1] | batch(3, n.s) %}"
    "{% set n.s = r %}{% endfor %}{% endfor %}{{ n.s }}",
    "slices that double": "{% set n = namespace(s=[1]) %}{% for i in range(60) %}"
    "{% set n.s = [1] | slice(3, n.s) | list %}{% endfor %}{{ n.s }}",
    "an attribute of many": "{% set n = namespace(s=1) %}{% for i in range(60) %}"
    "{% set n.s = [{'a': n.s}, {'a': n.s}] | map(attribute='a') | list %}{% endfor %}{{ n.s }}",
    "lists that sum up": "{% set x = range(9999) | list %}{{ [x, x, x, x, x, x, x, x] | sum(start=[]) | length }}",
    "centring": "{{ 'a' | center(10 ** 9) }}",
    "centring by method": "{{ 'a'.center(1000000000) }}",
    "padding with zeros": "{{ 'a'.zfill(1000000000) }}",
    "tabs": "{{ 'a\\t'.expandtabs(1000000000) }}",
    "tabs by name": "{{ 'a\\t'.expandtabs(tabsize=1000000000) }}",
    "printf": "{{ '%1000000000d' % 1 }}",
    "printf with a width as argument": "{{ '%*d' % (1000000000, 1) }}",
    "printf as a filter": "{{ '%1000000000d' | format(1) }}",
    "printf of a name": "{{ '%(a)1000000000s' | format(a=1) }}",
    "printf of names without end": "{{ ('%(' * 2000000) % 1 }}",
    "format without end": "{{ ('{' * 2000001).format(1) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format of a width": "{{ '{:{}}'.format(1, 1000000000) }}",
    "format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "indenting": "{{ ('a\\n' * 9999) | indent(999999) }}",
    "indenting with a text": "{{ ('a\\n' * 9999) | indent('x' * 9999) }}",
    "indented JSON": "{{ [[[1]]] | tojson(indent=1000000000) }}",
    "separators of JSON": "{% set x = range(9999) | list %}{{ x | tojson(separators=['x' * 99999, ':']) }}",
    "replacing nothing": "{{ ('a' * 99999) | replace('', 'b' * 99999) }}",
    "replacing by method": "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "joining": "{{ range(99999) | join('x' * 9999) }}",
    "joining by method": "{{ ('x' * 9999).join('a' * 99999) }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "squares": "{% set n = namespace(s=3) %}{% for i in range(99) %}{% set n.s = n.s * n.s %}{% endfor %}",
    "a number of many digits": "{{ ('f' * 4000000) | int(0, 16) }}",
    "searched ranges": "{% for i in range(99999) %}{{ 'a' in range(99999) }}{% endfor %}",
    "numbers of many digits": "{% set x = '1' * 4000000 %}{% for i in range(99999) %}{{ x | float }}{% endfor %}",
    "empty texts": "{% set x = [''] * 99999 %}{% for i in range(99999) %}{{ ''.join(x) }}{% endfor %}",
    "counted items": "{% set x = [[1, 2]] * 99999 %}{% for i in range(99999) %}{{ x.count([1, 3]) }}{% endfor %}",
    "batches of characters": "{% set x = 'a' * 4000000 %}{{ x | batch(1) | first }}",
    "rounding": "{{ 1.5 | round(1000000000) }}",
    "rounding up": "{{ 1 | round(1000000000, 'ceil') }}",
    "batches": "{{ [1] | batch(1000000000, 0) | list }}",
    "slices": "{{ [1] | slice(1000000000) | list }}",
    "the filter of a filter": "{{ range(99999) | map('center', 10 ** 9) | list }}",
    "deep lists": "{% set n = namespace(s=[]) %}{% for i in range(9999) %}{% set n.s = [n.s] %}{% endfor %}{{ n.s }}",
    "compared lists": "{% set x = range(99999) | list %}{% set y = range(99999) | list %}"
    + "{{ x == y }}" * 600,
    "searched texts": "{% set x = 'a' * 999999 %}" + "{{ 'aab' in x }}" * 1200,
    "copied texts": "{% set x = 'a' * 999999 %}" + "{% set y = x[1:] %}" * 1200,
    "changed texts": "{% set x = 'a' * 999999 %}" + "{% set y = x | upper %}" * 300,
    "changed texts by method": "{% set x = 'a' * 999999 %}" + "{% set y = x.upper() %}" * 100,
    "sorted lists": "{% set x = range(99999) | map('string') | list %}" + "{% set y = x | sort %}" * 400,
    "tested lists": "{% set x = range(99999) | list %}{% set y = range(99999) | list %}"
    + "{{ x is eq(y) }}" * 200,
}

ESCAPES = {
    "a class": "{{ ''.__class__.__mro__ }}",
    "a class by subscript": "{{ ''['__class__']['__mro__'] }}",
    "a class by filter": "{{ '' | attr('__class__') | attr('__mro__') }}",
    "a class by map": "{{ [''] | map(attribute='__class__') | map(attribute='__mro__') | list }}",
    "a class by sort": "{{ ['a', 'b'] | sort(attribute='__class__.__mro__') }}",
    "globals of cycler": "{{ cycler.__init__.__globals__ }}",
    "globals of a macro": "{% macro f() %}{% endmacro %}{{ f._func.__globals__ }}",
    "the environment": "{{ self._TemplateReference__context.environment }}",
    "globals of raise_exception": "{{ raise_exception.__globals__ }}",
    "format": "{{ '{0.__class__.__mro__}'.format(1) }}",
    "format of an item": "{{ '{0[__class__]}'.format(1) }}",
    "format_map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "format by attribute": "{{ ('{0.__class__}' | attr('format'))(1) }}",
    "format by map": "{{ (['{0.__class__}'] | map(attribute='format') | first)(1) }}",
    "format by subscript": "{{ '{0.__class__}'['format'](1) }}",
    "a change of the messages": "{{ messages.append(1) }}",
    "a change of a message": "{{ messages[0].update({'role': 'system'}) }}",
    "a call of a text's class": "{{ namespace.__class__('x', (), {}) }}",
    "bytes": "{{ 'a'.encode() }}",
    "a table for translate": "{{ 'a'.translate({97: 'b'}) }}",
    "another template": "{% include 'x' %}",
    "an imported template": "{% import 'x' as y %}",
    "an extended template": "{% extends 'x' %}",
    "a block": "{% block a %}{{ self.a() }}{% endblock %}",
    "debugging": "{% debug %}",
    "statements": "{% do messages.clear() %}",
}


def outcome(source: str) -> str:
    """What a template writes, or the message of its fault."""
    try:
        program = Program(source, lambda words: lambda text: text)
        return program.run({"messages": [{"role": "user", "content": "Hi"}]})
    except TemplateFault as fault:
        return f"fault: {fault}"


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_does_too_much_ends_with_an_error(name: str) -> None:
    begin_s = time.process_time()
    said = outcome(ENDLESS[name])
    assert said.startswith("fault: "), said[:200]
    assert len(said) < 400
    assert time.process_time() - begin_s < MOST_CPU_S


@pytest.mark.parametrize("name", [name for name in ENDLESS if "double" in name])
def test_a_template_that_does_too_much_takes_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        outcome(ENDLESS[name])
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_outside_the_sandbox_is_reached(name: str) -> None:
    said = outcome(ESCAPES[name])
    assert said == "" or said.startswith("fault: ") or said == "[]" or "Undefined" in said, said
    assert not re.search("<class|<function|0x[0-9a-f]{6}|'b'", said), said


def test_the_messages_of_a_request_stay_as_they_are() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    template = ChatTemplate("{{ messages[0].content }}{% set messages = [] %}", chat_tokenizer(), "x")
    assert template.render(messages) == "Hi"
    assert messages == [{"role": "user", "content": "Hi"}]


def test_an_error_names_the_line_of_the_template() -> None:
    assert "line 3:" in outcome("a\n\n{{ 'a' * 10 ** 9 }}")
    assert "line 2:" in outcome("a\n{{ nothing.at.all }}")
    assert "line 2:" in outcome("a\n{% for %}")
    assert "line 3:" in outcome(
        "{% macro f() %}\n{% for a in [1] %}\n{{ a.b.c }}{% endfor %}{% endmacro %}{{ f() }}"
    )


@pytest.mark.parametrize(
    "source",
    [
        "x" * (MAX_SOURCE_CHARS + 1),
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "-" * 50000 + "1 }}",
        "{% if a %}" * 3000,
        "{% for a in b %}" * 30 + "{% endfor %}" * 30,
        "{{ " + "[" * 3000,
        "{{ '\\ud800' }}",
        "{# " * 50000,
        "{{ a | nosuchfilter }}",
        "{{ 1 is nosuchtest }}",
        "{{ 1e999999 ** 2 ",
        "{{ " + "9" * 5000 + " }}",
        "\0{{",
    ],
    ids=lambda source: source[:12],
)
def test_a_template_that_cannot_be_compiled_is_a_problem_and_every_request_says_so(source: str) -> None:
    template = ChatTemplate(source, chat_tokenizer(), "x")
    assert template.problem
    with pytest.raises(RequestError, match="chat template of this model cannot be used"):
        template.render([{"role": "user", "content": "Hi"}])


def test_a_template_that_runs_for_ever_is_found_when_it_is_loaded() -> None:
    template = ChatTemplate(ENDLESS["nested loops"], chat_tokenizer(), "x")
    assert template.problem is not None
    assert "steps" in template.problem or "takes more than" in template.problem


def test_as_much_as_the_limit_may_be_written() -> None:
    source = "{% for a in range(4) %}{{ 'x' * " + str(MAX_CHARS // 4) + " }}{% endfor %}"
    assert len(outcome(source)) == MAX_CHARS
    assert outcome(source + "x").startswith("fault: ")
