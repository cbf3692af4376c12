"""Chat templates: what they are given, what they may use, what they expect of messages, one BOS."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llorch.chat.template import ChatTemplate
from llorch.errors import RequestError
from tests.support.chat import chat_tokenizer, pieces

USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hi"}
CALL: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": "ü"}}}],
}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
ALL = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"


def made(source: str, tool_source: str | None = None, *, add_bos: bool = True) -> ChatTemplate:
    template = ChatTemplate(source, chat_tokenizer(add_bos=add_bos), "x", tool_source)
    assert template.problem is None
    return template


def rendered(source: str, *messages: dict[str, Any], **arguments: Any) -> str:
    return made(source).render(messages or [USER], **arguments)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{{ eos_token }}", "<s></s>"),
        ("{{ tools is none }}{{ documents is none }}{{ other is undefined }}", "TrueTrueTrue"),
        ("{% if add_generation_prompt %}yes{% endif %}", "yes"),
        ("a\n  {% if true %}\nb\n  {% endif %}\n", "a\nb\n"),
        ("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}"
         "{% endfor %}", "02"),
        ("{% generation %}{{ 1 }}{% endgeneration %}", "1"),
        ("{{ {'a': '<ü>', 'b': [1, none, true]} | tojson }}", '{"a": "<ü>", "b": [1, null, true]}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("{{ {'b': 1, 'a': [2]} | tojson(separators=(',', ':'), sort_keys=true) }}", '{"a":[2],"b":1}'),
        ("{{ [{'a': 1}] | map(attribute='a') | tojson }}", "[1]"),
        ("{{ 'ü' | tojson(ensure_ascii=true) }}", '"\\u00fc"'),
        ("{{ ' a ' | trim | upper }}{{ 'a,b'.split(',') | join('-') }}{{ 'abc'[::-1] }}", "Aa-bcba"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join }}", "Hi"),
        ("{% set n = namespace(a=1) %}{% for i in range(3) %}{% set n.a = n.a + i %}{% endfor %}{{ n.a }}", "4"),
        ("{% macro f(a, b=2) %}{{ a }}{{ b }}{{ caller() if caller else '' }}{% endmacro %}{{ f(1) }}"
         "{% call f(3) %}c{% endcall %}", "1232c"),
        ("{{ '%s is %d' % ('a', 2) }}{{ '{} {x}'.format(1, x=2) }}{{ '%s' | format('b') }}", "a is 21 2b"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{{ loop.length }}{% endfor %}", "a11"),
        ("{{ 'a' ~ 1 ~ none ~ [1, 'b'] }}", "a1None[1, 'b']"),
        ("{{ messages[0].get('name', 'nobody') }}{{ 'content' in messages[0] }}", "nobodyTrue"),
        ("{% for m in messages if m.role == 'user' %}{{ loop.index0 }}{{ loop.last }}{% endfor %}", "0True"),
        ("{{ '<b>' | safe }}{{ 1.50 | round(1) }}{{ 7 // 2 }}{{ 2 ** 3 }}{{ 7 % 4 }}", "<b>1.5383"),
        ("{% set x %}a{% endset %}{{ x * 3 }}{% filter upper %}b{% endfilter %}", "aaaB"),
    ],
)  # fmt: skip
def test_templates_can_say_what_those_of_transformers_can(source: str, text: str) -> None:
    assert rendered(source) == text


def test_the_date_is_what_strftime_says() -> None:
    assert re.fullmatch(r"\d\d \w{3} \d{4}", rendered("{{ strftime_now('%d %b %Y') }}"))


def test_threads_share_a_template_and_its_limits_are_those_of_each_rendering() -> None:
    template = made(
        "{% for i in range(9999) %}{% for m in messages %}{{ m.content[:1] }}{% endfor %}{% endfor %}"
    )
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda text: template.render([{"role": "user", "content": text}]), "abcdefgh"))
    assert texts == [text * 9999 for text in "abcdefgh"]


def test_a_request_can_leave_out_the_beginning_of_the_answer() -> None:
    source = ALL + "{% if add_generation_prompt %}assistant:{% endif %}"
    assert rendered(source) == "user:Hi;assistant:"
    assert rendered(source, add_generation_prompt=False) == "user:Hi;"


def test_a_request_can_set_variables_but_not_those_of_the_template() -> None:
    assert rendered("{{ enable_thinking }}", variables={"enable_thinking": False}) == "False"
    with pytest.raises(RequestError) as caught:
        rendered("{{ bos_token }}", variables={"bos_token": "x", "messages": [], "a": 1})
    assert [fault.field for fault in caught.value.errors] == ["chat_template_kwargs"] * 2


def test_what_the_template_refuses_is_a_fault_of_the_request() -> None:
    source = "{% if messages | length > 3 %}{{ raise_exception('at most\n 3 messages') }}{% endif %}"
    with pytest.raises(RequestError, match="refuses these messages: at most 3 messages") as caught:
        rendered(source, USER, USER, USER, USER)
    assert caught.value.errors[0].field == "messages"


def test_what_fails_in_the_template_is_a_fault_that_names_the_line() -> None:
    source = "a\n{{ messages[3].a.b if messages | length > 3 }}"
    with pytest.raises(RequestError, match="fails with these messages: line 2: UndefinedError"):
        rendered(source, USER, USER, USER, USER)


@pytest.mark.parametrize(
    "value", ["\ud800", {"\udfff": 1}, object(), b"x"], ids=["text", "key", "object", "bytes"]
)
def test_what_is_no_json_is_a_fault_of_the_request(value: Any) -> None:
    with pytest.raises(RequestError, match=r"^chat_template_kwargs: "):
        rendered("{{ x }}", variables={"x": value})


def test_values_are_not_nested_for_ever() -> None:
    value: list[Any] = []
    for _ in range(2000):
        value = [value]
    with pytest.raises(RequestError, match="60 deep"):
        rendered("{{ x }}", variables={"x": value})


def test_the_template_for_tools_is_used_for_requests_with_tools_only() -> None:
    template = made("plain", "{% for tool in tools %}{{ tool.function.name }}{% endfor %}")
    assert (template.render([USER]), template.render([USER], tools=[])) == ("plain", "plain")
    assert template.render([USER], tools=TOOLS) == "f"
    assert template.supports_tools


def test_both_templates_know_their_own_tokens() -> None:
    template = made("{{ bos_token }}<|eot_id|>{{ eos_token }}", "<|im_end|>{{ eos_token }}<|eot_id|>")
    assert template.render([USER]) == "<s><|eot_id|></s>"
    assert template.render([USER], tools=TOOLS) == "<|im_end|></s><|eot_id|>"


def test_a_template_for_tools_that_is_broken_leaves_the_other_one() -> None:
    template = made("plain{{ tools }}", "{% if %}")
    assert template.tool_problem == "line 1: Expected an expression, got 'end of statement block'"
    assert template.render([USER], tools=[]) == "plainNone"


@pytest.mark.parametrize(
    ("source", "tools", "system"),
    [
        (ALL, False, True),
        (ALL + "{% if tools %}{{ tools | tojson }}{% endif %}", True, True),
        (
            "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}",
            False,
            False,
        ),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}", False, False),
    ],
)
def test_what_a_template_supports_is_known(source: str, tools: bool, system: bool) -> None:
    template = made(source)
    assert (template.supports_tools, template.supports_system) == (tools, system)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (ALL, "assistant:;"),
        ("{% for m in messages %}{{ 'null' if m.content is none else m.content }}{% endfor %}", "null"),
        ("{% for m in messages %}{{ m.content + '.' }}{% endfor %}", "."),
    ],
)
def test_a_message_without_content_is_what_the_template_can_take(source: str, text: str) -> None:
    assert rendered(source, CALL) == text


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("{{ c.function.arguments | tojson }}", '{"a": "ü"}'),
        ("{{ c.function.arguments }}", '{"a": "ü"}'),
        ("{{ c.function.arguments | items | list }}", "[('a', 'ü')]"),
        ("{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}",
         '{"a": "ü"}'),
    ],
)  # fmt: skip
def test_arguments_are_objects_or_json_as_the_template_expects(written: str, text: str) -> None:
    source = "{% for m in messages %}{% for c in m.tool_calls or [] %}" + written + "{% endfor %}{% endfor %}"
    assert rendered(source, USER, CALL) == text


def test_a_template_that_cannot_take_none_for_tools_gets_nothing() -> None:
    assert rendered("{% for tool in tools %}{{ tool }}{% endfor %}x") == "x"


@pytest.mark.parametrize(
    ("source", "end"),
    [
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
            "<|im_end|>",
        ),
        ("{% for m in messages %}{{ m.content | trim }}\n{{ eos_token }}{% endfor %}", "</s>"),
        (ALL, None),
    ],
)
def test_the_token_behind_an_answer_is_found(source: str, end: str | None) -> None:
    template = made(source)
    tokenizer = chat_tokenizer()
    assert (None if template.end_id is None else tokenizer.piece(template.end_id)) == end


@pytest.mark.parametrize("add_bos", [True, False])
@pytest.mark.parametrize(
    ("source", "first", "has_own"),
    [
        ("x", ["<s>"], False),
        ("{{ bos_token }}x", ["<s>"], True),
        ("<s>x", ["<s>"], True),
        ("<s>{{ bos_token }}x", ["<s>"], True),
        ("<|im_start|>x", ["<s>", "<|im_start|>"], False),
    ],
)
def test_there_is_one_bos_and_never_two(source: str, first: list[str], has_own: bool, add_bos: bool) -> None:
    tokenizer = chat_tokenizer(add_bos=add_bos)
    said = pieces(tokenizer, ChatTemplate(source, tokenizer, "x").prompt_ids(tokenizer, [USER]))
    expected = first if add_bos or has_own else first[1:]
    assert said[: len(expected)] == expected
    assert said.count("<s>") == expected.count("<s>")


def test_white_space_before_the_bos_makes_no_second_one() -> None:
    template = made("\n{{ ' ' }}{{ bos_token }}x")
    tokenizer = chat_tokenizer()
    assert pieces(tokenizer, template.prompt_ids(tokenizer, [USER])).count("<s>") == 1


def test_a_bos_between_turns_stays() -> None:
    template = made("{% for m in messages %}{{ bos_token + m.content + eos_token }}{% endfor %}")
    tokenizer = chat_tokenizer()
    assert pieces(tokenizer, template.prompt_ids(tokenizer, [USER, ANSWER])).count("<s>") == 2


def test_no_eos_stands_behind_the_beginning_of_an_answer() -> None:
    tokenizer = chat_tokenizer(add_eos=True)
    assert tokenizer.encode("x")[-1] == tokenizer.vocab.eos_id
    said = ChatTemplate("x", tokenizer, "x").prompt_ids(tokenizer, [USER])
    assert tokenizer.vocab.eos_id not in said


@pytest.mark.parametrize("bad", ["a\ud800", [[["x\ud800"]]], {"a": object()}])
def test_a_value_that_no_template_can_take_is_refused_by_the_name_of_its_field(bad: Any) -> None:
    def fault_of(*messages: dict[str, Any], **arguments: Any) -> str:
        with pytest.raises(RequestError) as refused:
            rendered(ALL, *messages, **arguments)
        (fault,) = refused.value.errors
        assert fault.message.startswith(f"{fault.field}: ")
        return fault.field

    assert fault_of(variables={"x": bad}) == "chat_template_kwargs"
    assert fault_of(tools=[{"type": "function", "function": {"name": "f", "description": bad}}]) == "tools"
    assert fault_of({**USER, "name": bad}) == "messages"
