"""Whatever users write: their texts add no control token, and change nothing about those of the template."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.chat.builtin import BUILTIN
from llorch.chat.template import ChatTemplate
from tests.support.chat import CONTROLS, USER_DEFINED, chat_tokenizer, controls

TOKENIZER = chat_tokenizer()
COMPOSED = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content | trim + '<|end|>' }}{% endfor %}<|assistant|>"
WITH_CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}{{ m.content | upper }}{{ m.name | lower }}"
    "{{ (m.tool_calls or []) | tojson }}<|im_end|>{% endfor %}"
)
TEMPLATES = [ChatTemplate(source, TOKENIZER, "x") for source in (*BUILTIN.values(), COMPOSED, WITH_CALLS)]

FIELDS = {"role", "content", "name", "tool_calls", "function", "arguments"}
CUTS = [text[:i] for text in CONTROLS for i in range(1, len(text))]
CUTS += [text[i:] for text in CONTROLS for i in range(1, len(text))]
TEXTS = st.lists(
    st.sampled_from([*CONTROLS, *CUTS, *USER_DEFINED, " ", "\n", "user", "Hi"]) | st.text(max_size=5),
    max_size=6,
).map("".join)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": TEXTS},
        optional={
            "name": TEXTS,
            "tool_calls": st.lists(
                st.fixed_dictionaries(
                    {
                        "function": st.fixed_dictionaries(
                            {"name": TEXTS, "arguments": st.dictionaries(TEXTS, TEXTS)}
                        )
                    }
                ),
                max_size=2,
            ),
        },
    ),
    min_size=1,
    max_size=4,
)


def harmless(value: Any) -> Any:
    """`value` with texts that spell no special token: the names of fields and the roles stay."""
    if isinstance(value, list):
        return [harmless(item) for item in value]
    if isinstance(value, dict):
        return {
            key if key in FIELDS else f"other {i}": item if key == "role" else harmless(item)
            for i, (key, item) in enumerate(value.items())
        }
    return "Hi"


@settings(max_examples=60)
@given(st.sampled_from(TEMPLATES), MESSAGES)
def test_no_text_of_a_user_adds_or_removes_a_control_token(
    template: ChatTemplate, messages: list[dict[str, Any]]
) -> None:
    token_ids = template.prompt_ids(TOKENIZER, messages)
    plain = template.prompt_ids(TOKENIZER, harmless(messages))
    assert controls(TOKENIZER, token_ids) == controls(TOKENIZER, plain)


@settings(max_examples=60)
@given(st.sampled_from(TEMPLATES), MESSAGES)
def test_the_tokens_spell_the_text_of_the_template(
    template: ChatTemplate, messages: list[dict[str, Any]]
) -> None:
    text = template.render(messages)
    spelled = TOKENIZER.decode(template.prompt_ids(TOKENIZER, messages), special=True)
    assert spelled.removeprefix("<s>").replace(" ", "") == text.removeprefix("<s>").replace(" ", "")


@settings(max_examples=60)
@given(st.sampled_from(TEMPLATES), MESSAGES)
def test_without_special_text_the_ids_are_those_of_the_text(
    template: ChatTemplate, messages: list[dict[str, Any]]
) -> None:
    harmless_messages = harmless(messages)
    text = template.render(harmless_messages)
    token_ids = template.prompt_ids(TOKENIZER, harmless_messages)
    assert token_ids == TOKENIZER.encode(text, parse_special=True)
