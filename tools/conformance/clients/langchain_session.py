"""`langchain-openai`: chat models, completions, structured output, tools, embeddings."""

from __future__ import annotations

from typing import Any

import langchain_openai
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage

from tools.conformance.checks import Check, Target, expect, expect_equal, main
from tools.conformance.clients.openai_structure import WEATHER, Place


def _chat(target: Target, **fields: Any) -> Any:
    fields = {"temperature": 0, "max_tokens": 12, "max_retries": 0, "use_responses_api": False, **fields}
    return langchain_openai.ChatOpenAI(model=target.model, base_url=target.v1, api_key=target.key, **fields)


def invoke(target: Target) -> None:
    """A chat answers; streamed and in a batch it answers the same, with its usage."""
    chat = _chat(target)
    messages = [SystemMessage("Be terse."), HumanMessage("Say hi.")]
    whole = chat.invoke(messages)
    expect(whole.usage_metadata["output_tokens"] > 0, "no usage")
    chunks = list(_chat(target, stream_usage=True).stream(messages))
    expect_equal("streamed", "".join(chunk.text for chunk in chunks), whole.text)
    counted = [chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata]
    expect_equal("usage of the stream", sum(counted), whole.usage_metadata["output_tokens"])
    batch = chat.batch([messages] * 3)
    expect_equal("batch", [answer.text for answer in batch], [whole.text] * 3)


def completion(target: Target) -> None:
    """The completion model writes text, for one prompt and for two at once."""
    model = langchain_openai.OpenAI(
        model=target.model,
        base_url=target.v1,
        api_key=target.key,
        temperature=0,
        max_tokens=8,
        max_retries=0,
    )
    prompts = ["Once upon a time", "The capital of France is"]
    found = [generations[0].text for generations in model.generate(prompts).generations]
    expect_equal("two at once", found, [model.invoke(prompt) for prompt in prompts])


def structured(target: Target) -> None:
    """`with_structured_output` gives an instance, by schema and by a function call."""
    for method in ("json_schema", "function_calling"):
        model = _chat(target, max_tokens=100).with_structured_output(Place, method=method)
        expect(isinstance(model.invoke("A village?"), Place), f"{method} gave no instance")


def tools(target: Target) -> None:
    """A bound tool is called; its result is taken."""
    _expect_call(_chat(target, max_tokens=120))


def _expect_call(chat: Any) -> None:
    question = HumanMessage("What is the weather in Paris?")
    called = chat.bind_tools([WEATHER], tool_choice="get_weather").invoke([question])
    (call,) = called.tool_calls
    expect_equal("tool", call["name"], "get_weather")
    result = ToolMessage("blue sky", tool_call_id=call["id"])
    answer = chat.bind_tools([WEATHER], tool_choice="none").invoke([question, called, result])
    expect(bool(answer.text), "no words after the result")


def responses(target: Target) -> None:
    """With `use_responses_api` it answers as through chats; structure, tools and their results work, too."""
    messages = [SystemMessage("Be terse."), HumanMessage("Say hi.")]
    chat = _chat(target, use_responses_api=True)
    whole = chat.invoke(messages)
    expect_equal("text", whole.text, _chat(target).invoke(messages).text)
    chunks = list(chat.stream(messages))
    expect_equal("streamed", "".join(chunk.text for chunk in chunks), whole.text)
    counted = [chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata]
    expect_equal("usage of the stream", sum(counted), whole.usage_metadata["output_tokens"])
    again = chat.invoke([*messages, whole, HumanMessage("Again.")])
    expect(again.usage_metadata["input_tokens"] > whole.usage_metadata["total_tokens"], "no earlier turns")
    chat = _chat(target, use_responses_api=True, max_tokens=120)
    for method in ("json_schema", "function_calling"):
        found = chat.with_structured_output(Place, method=method).invoke("A village?")
        expect(isinstance(found, Place), f"{method} gave no instance")
    _expect_call(chat)


def embeddings(target: Target) -> None:
    """Documents and queries get vectors; texts travel as they are where the client does not tokenise them itself."""
    model = langchain_openai.OpenAIEmbeddings(
        model=target.model,
        base_url=target.v1,
        api_key=target.key,
        check_embedding_ctx_length=False,
        max_retries=0,
    )
    texts = ["A cat sleeps.", "Granite is a rock."]
    found = model.embed_documents(texts)
    expect_equal("queries", [model.embed_query(text) for text in texts], found)
    expect(found[0] != found[1], "two texts, one vector")


CHECKS: list[Check] = [invoke, completion, structured, tools, responses, embeddings]

if __name__ == "__main__":
    main(CHECKS)
