"""The `anthropic` client for `/v1/messages`."""

from __future__ import annotations

from typing import Any

import anthropic

from tools.conformance.checks import Check, Target, expect, expect_equal, expect_error, main


def _client(target: Target, **fields: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        **{"base_url": target.url, "api_key": target.key, "max_retries": 0, "timeout": 120, **fields}
    )


def _ask(target: Target, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say hi."}]
    greedy = {"temperature": 0}  # newer clients have no argument for it
    return {"model": target.model, "max_tokens": 12, "extra_body": greedy, "messages": messages, **fields}


def messages(target: Target) -> None:
    """A message is answered with text, a reason and its usage; system text and content blocks are taken."""
    client = _client(target)
    answer = client.messages.create(**_ask(target))
    expect_equal("kinds of content", [block.type for block in answer.content], ["text"])
    expect(answer.stop_reason in ("end_turn", "max_tokens"), f"stop_reason {answer.stop_reason!r}")
    expect(0 < answer.usage.output_tokens <= 12, f"output_tokens {answer.usage.output_tokens}")
    blocks = [{"role": "user", "content": [{"type": "text", "text": "Say hi."}]}]
    same = client.messages.create(**_ask(target, messages=blocks))
    expect_equal("the same as a block", same.content[0].text, answer.content[0].text)
    system = [{"type": "text", "text": "Be terse.", "cache_control": {"type": "ephemeral"}}]
    in_blocks = client.messages.create(**_ask(target, system=system, metadata={"user_id": "x"}))
    as_text = client.messages.create(**_ask(target, system="Be terse."))
    expect_equal("system in blocks", in_blocks.content[0].text, as_text.content[0].text)


def stream(target: Target) -> None:
    """A streamed message has the same text and usage; its events are in Anthropic's order."""
    client = _client(target)
    whole = client.messages.create(**_ask(target))
    with client.messages.stream(**_ask(target)) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    expect_equal("text", text, whole.content[0].text)
    expect_equal(
        "end", (final.stop_reason, final.usage.output_tokens), (whole.stop_reason, whole.usage.output_tokens)
    )
    kinds = [event.type for event in client.messages.create(**_ask(target), stream=True)]
    kinds = [kind for kind in kinds if kind != "ping"]
    expect_equal("first events", kinds[:2], ["message_start", "content_block_start"])
    expect_equal("last events", kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])


TOOL = {
    "name": "set_colour",
    "description": "sets the colour of the lamp",
    "input_schema": {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    },
}


def tools(target: Target) -> None:
    """A tool is called, whole and streamed; its result is taken; the tokens of all that are counted."""
    client = _client(target)
    question = [{"role": "user", "content": "Make the lamp red."}]
    choice = {"type": "tool", "name": "set_colour", "disable_parallel_tool_use": True}
    ask = _ask(target, messages=question, tools=[TOOL], tool_choice=choice, max_tokens=60)
    answer = client.messages.create(**ask)
    calls = [block for block in answer.content if block.type == "tool_use"]
    expect_equal("calls", [call.name for call in calls], ["set_colour"])
    expect(calls[0].input["colour"] in ("red", "blue"), f"input {calls[0].input}")
    expect_equal("stop_reason", answer.stop_reason, "tool_use")
    with client.messages.stream(**ask) as events:
        final = events.get_final_message()
    expect_equal(
        "streamed", [block.input for block in final.content if block.type == "tool_use"], [calls[0].input]
    )
    result = {"type": "tool_result", "tool_use_id": calls[0].id, "content": "The lamp is red now."}
    turns = [
        *question,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    ask |= {"messages": turns, "tool_choice": {"type": "none"}}
    told = client.messages.create(**ask)
    expect_equal("kinds of content", [block.type for block in told.content], ["text"])
    counted = client.messages.count_tokens(model=target.model, messages=turns, tools=[TOOL]).input_tokens
    expect(
        counted > told.usage.input_tokens + (told.usage.cache_read_input_tokens or 0), "tools are not counted"
    )


def stops(target: Target) -> None:
    """A stop sequence ends the text before it and is named."""
    client = _client(target)
    text = client.messages.create(**_ask(target)).content[0].text
    stop = text[len(text) // 2 :][:3]
    answer = client.messages.create(**_ask(target, stop_sequences=[stop]))
    expect_equal("stop", (answer.stop_reason, answer.stop_sequence), ("stop_sequence", stop))
    expect_equal("text", answer.content[0].text if answer.content else "", text[: text.index(stop)])


def counting(target: Target) -> None:
    """`count_tokens` is what the same message costs."""
    client = _client(target)
    ask = _ask(target)
    counted = client.messages.count_tokens(model=target.model, messages=ask["messages"]).input_tokens
    usage = client.messages.create(**ask).usage
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    expect_equal("input_tokens", counted, usage.input_tokens + cached)


def errors(target: Target) -> None:
    """Bad requests, wrong keys and unknown models have Anthropic's error classes."""
    client = _client(target)
    bad: list[dict[str, Any]] = [{"extra_body": {"temperature": 7}}, {"messages": []}, {"max_tokens": 0}]
    for fields in bad:
        error = expect_error(
            anthropic.BadRequestError,
            f"{fields}",
            client.messages.create,
            **_ask(target, **fields),
        )
        expect_equal("type", error.body["error"]["type"], "invalid_request_error")
    stranger = _client(target, api_key="wrong")
    error = expect_error(anthropic.AuthenticationError, "wrong key", stranger.messages.create, **_ask(target))
    expect_equal("type", error.body["error"]["type"], "authentication_error")


CHECKS: list[Check] = [messages, stream, tools, stops, counting, errors]

if __name__ == "__main__":
    main(CHECKS)
