"""The `litellm` client, which translates for proxies and agents."""

from __future__ import annotations

import asyncio
from typing import Any

import litellm

from tools.conformance.checks import Check, Target, expect, expect_equal, expect_error, main
from tools.conformance.clients.openai_structure import ASK_WEATHER, WEATHER

litellm.suppress_debug_info = True
MESSAGES = [{"role": "user", "content": "Say hi."}]


def _ask(target: Target, **fields: Any) -> dict[str, Any]:
    return {
        "model": f"openai/{target.model}",
        "api_base": target.v1,
        "api_key": target.key,
        "max_tokens": 12,
        "temperature": 0,
        "num_retries": 0,
        **fields,
    }


def completion(target: Target) -> None:
    """A completion, the same streamed, and the same from the asynchronous call."""
    whole = litellm.completion(messages=MESSAGES, **_ask(target))
    text = whole.choices[0].message.content
    expect(whole.usage.completion_tokens > 0, "no completion tokens")
    chunks = list(
        litellm.completion(
            messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **_ask(target)
        )
    )
    expect_equal("streamed", "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), text)
    rebuilt = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    expect_equal("rebuilt usage", rebuilt.usage.completion_tokens, whole.usage.completion_tokens)
    later = asyncio.run(litellm.acompletion(messages=MESSAGES, **_ask(target)))
    expect_equal("asynchronous", later.choices[0].message.content, text)


def text_completion(target: Target) -> None:
    """A text completion."""
    ask = _ask(target, model=f"text-completion-openai/{target.model}")
    text = litellm.text_completion(prompt="Once upon a time", **ask).choices[0].text
    expect(bool(text), "no text")


def tools(target: Target) -> None:
    """A required tool is called."""
    ask = _ask(target, max_tokens=120)
    answer = litellm.completion(messages=ASK_WEATHER, tools=[WEATHER], tool_choice="required", **ask)
    expect_equal("tool", answer.choices[0].message.tool_calls[0].function.name, "get_weather")


def errors(target: Target) -> None:
    """Errors have litellm's own classes: bad request, context window, authentication."""
    expect_error(
        litellm.BadRequestError,
        "temperature 3",
        litellm.completion,
        messages=MESSAGES,
        **_ask(target, temperature=3),
    )
    long = [{"role": "user", "content": "a b " * 8_000}]
    expect_error(
        litellm.ContextWindowExceededError,
        "over-long prompt",
        litellm.completion,
        messages=long,
        **_ask(target),
    )
    expect_error(
        litellm.AuthenticationError,
        "wrong key",
        litellm.completion,
        messages=MESSAGES,
        **_ask(target, api_key="wrong"),
    )


def embeddings(target: Target) -> None:
    """Texts get vectors, in their order, with usage; what is no input is a bad request."""
    ask = {name: value for name, value in _ask(target).items() if name not in ("max_tokens", "temperature")}
    found = litellm.embedding(input=["A cat sleeps.", "Granite is a rock."], **ask)
    alone = litellm.embedding(input=["Granite is a rock."], **ask)
    expect_equal("alone", alone.data[0]["embedding"], found.data[1]["embedding"])
    expect(found.usage.prompt_tokens > alone.usage.prompt_tokens > 0, "no usage")
    expect_error(litellm.BadRequestError, "no input", litellm.embedding, input=[], **ask)


CHECKS: list[Check] = [completion, text_completion, tools, errors, embeddings]

if __name__ == "__main__":
    main(CHECKS)
