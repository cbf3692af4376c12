"""The built-in templates, written out, and against llama.cpp's own."""

from __future__ import annotations

import ctypes
import importlib.util
from typing import Any

import pytest

from llorch.chat.builtin import BUILTIN
from llorch.chat.template import ChatTemplate
from tests.support.chat import chat_tokenizer

TURNS = [("system", "Be brief."), ("user", " Hi "), ("assistant", "Hello"), ("user", "More")]
WRITTEN = {
    "llama2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] More [/INST]",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nMore<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n"
    "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n",
    "zephyr": "<|system|>\nBe brief.</s>\n<|user|>\n Hi </s>\n<|assistant|>\nHello</s>\n<|user|>\nMore</s>\n"
    "<|assistant|>\n",
}


def template(name: str) -> ChatTemplate:
    return ChatTemplate(BUILTIN[name], chat_tokenizer(), name)


def rendered(name: str, turns: list[tuple[str, str]]) -> str:
    return template(name).render([{"role": role, "content": content} for role, content in turns])


def test_there_are_four() -> None:
    assert sorted(BUILTIN) == sorted(WRITTEN)


@pytest.mark.parametrize("name", WRITTEN)
def test_each_writes_its_format(name: str) -> None:
    assert rendered(name, TURNS) == WRITTEN[name]


@pytest.mark.parametrize("name", WRITTEN)
def test_each_writes_system_messages_and_knows_its_end(name: str) -> None:
    made = template(name)
    end = {"llama2": "</s>", "llama3": "<|eot_id|>", "chatml": "<|im_end|>", "zephyr": "</s>"}[name]
    assert (made.problem, made.supports_system) == (None, True)
    assert made.end_id is not None
    assert chat_tokenizer().piece(made.end_id) == end


@pytest.mark.parametrize("name", WRITTEN)
def test_each_takes_an_answer_that_only_called_a_tool(name: str) -> None:
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": {}}}],
    }
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Hi"},
        call,
        {"role": "tool", "content": "3"},
    ]
    assert "None" not in template(name).render(messages)


def llama_cpp_rendered(name: str, turns: list[tuple[str, str]]) -> str:
    import llama_cpp

    encoded = [(role.encode(), content.encode()) for role, content in turns]
    messages = (llama_cpp.llama_chat_message * len(turns))()
    for message, (role, content) in zip(messages, encoded, strict=True):
        message.role, message.content = role, content
    buffer = ctypes.create_string_buffer(10000)
    n = llama_cpp.llama_chat_apply_template(name.encode(), messages, len(turns), True, buffer, len(buffer))
    assert n >= 0
    return buffer.raw[:n].decode()


@pytest.mark.reference
@pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed")
@pytest.mark.parametrize("turns", [TURNS, TURNS[1:], TURNS[:2], [("user", "Größe 😀\n")]], ids=len)
@pytest.mark.parametrize("name", WRITTEN)
def test_each_equals_that_of_llama_cpp(name: str, turns: list[tuple[str, str]]) -> None:
    """But for the spaces that Llama 2 has around answers, its BOS, and the end token that Zephyr models really have."""
    peer = llama_cpp_rendered({"llama2": "llama2-sys-strip"}.get(name, name), turns)
    own = rendered(name, turns)
    if name == "zephyr":
        peer = peer.replace("<|endoftext|>", "</s>")
    if name == "llama2":
        own = own.replace("<s>", "").replace(" Hello ", "Hello")
    assert own == peer
