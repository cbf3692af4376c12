"""The `openai` client: models, text completions, chat, streams, log probabilities, errors."""

from __future__ import annotations

import asyncio
from typing import Any

import openai

from tools.conformance.checks import Check, Target, expect, expect_equal, expect_error, main

SAY_HI = [{"role": "user", "content": "Say hi."}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}


def client_of(target: Target) -> openai.OpenAI:
    """A client that does not hide failures behind retries."""
    return openai.OpenAI(base_url=target.v1, api_key=target.key, max_retries=0, timeout=120)


def models(target: Target) -> None:
    """Models are listed and looked up; an unknown one is NotFoundError."""
    client = client_of(target)
    expect(target.model in [model.id for model in client.models.list()], "the model is not in the list")
    expect_equal("id", client.models.retrieve(target.model).id, target.model)
    expect_error(openai.NotFoundError, "unknown model", client.models.retrieve, "no-such-model")


def chat(target: Target) -> None:
    """A chat answers the same twice, counts its tokens and says why it ended."""
    client = client_of(target)
    first, second = (
        client.chat.completions.create(model=target.model, messages=SAY_HI, **GREEDY) for _ in range(2)
    )
    choice = first.choices[0]
    expect_equal("object", first.object, "chat.completion")
    expect_equal("role", choice.message.role, "assistant")
    expect_equal("the same request again", second.choices[0].message.content, choice.message.content)
    expect(choice.finish_reason in ("stop", "length"), f"finish_reason {choice.finish_reason!r}")
    usage = first.usage
    expect_equal("total_tokens", usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    expect(0 < usage.completion_tokens <= 12, f"completion_tokens {usage.completion_tokens}")
    cached = second.usage.prompt_tokens_details.cached_tokens
    expect(0 <= cached < second.usage.prompt_tokens, f"cached_tokens {cached}")


def chat_roles_and_parts(target: Target) -> None:
    """System and assistant messages, content in parts, max_completion_tokens and unknown-to-us fields are taken."""
    client = client_of(target)
    messages = [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": [{"type": "text", "text": "One "}, {"type": "text", "text": "word."}]},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Another.", "name": "ann"},
    ]
    answer = client.chat.completions.create(
        model=target.model,
        messages=messages,
        max_completion_tokens=4,
        temperature=0,
        user="someone",
        store=False,
        metadata={"a": "b"},
        parallel_tool_calls=True,
        service_tier="auto",
        stop=None,
        n=None,
        logit_bias=None,
    )
    expect(0 < answer.usage.completion_tokens <= 4, f"completion_tokens {answer.usage.completion_tokens}")


def chat_stream(target: Target) -> None:
    """A streamed chat has the role first, the same text in pieces, then the usage in a chunk of its own."""
    client = client_of(target)
    whole = client.chat.completions.create(model=target.model, messages=SAY_HI, **GREEDY)
    stream = client.chat.completions.create(
        model=target.model, messages=SAY_HI, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = list(stream)
    expect_equal("role of the first chunk", chunks[0].choices[0].delta.role, "assistant")
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    expect_equal("text of the pieces", "".join(pieces), whole.choices[0].message.content)
    expect_equal("choices of the last chunk", chunks[-1].choices, [])
    expect_equal("usage", chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
    expect(all(chunk.usage is None for chunk in chunks[:-1]), "usage in an earlier chunk")
    reasons = [chunk.choices[0].finish_reason for chunk in chunks[:-1]]
    expect_equal("finish reasons", [r for r in reasons if r], [whole.choices[0].finish_reason])
    expect_equal("ids and times", len({(chunk.id, chunk.created) for chunk in chunks}), 1)


def stream_without_usage(target: Target) -> None:
    """Without include_usage no chunk carries a usage; a stream that is closed early leaves the server well."""
    client = client_of(target)
    stream = client.chat.completions.create(model=target.model, messages=SAY_HI, stream=True, max_tokens=400)
    for number, chunk in enumerate(stream):
        expect(getattr(chunk, "usage", None) is None, "a usage nobody asked for")
        if number == 3:
            stream.close()
            break
    chat(target)


def several_choices(target: Target) -> None:
    """`n` choices with a seed: as many, numbered, the same again; streamed they are told apart by index."""
    client = client_of(target)
    wanted: dict[str, Any] = {"n": 3, "seed": 7, "temperature": 1.0, "max_tokens": 8}
    runs = [client.chat.completions.create(model=target.model, messages=SAY_HI, **wanted) for _ in range(2)]
    texts = [[choice.message.content for choice in run.choices] for run in runs]
    expect_equal("indices", [choice.index for choice in runs[0].choices], [0, 1, 2])
    expect_equal("the same seed again", texts[1], texts[0])
    expect(len(set(texts[0])) > 1, "all choices are equal")
    streamed = {0: "", 1: "", 2: ""}
    for chunk in client.chat.completions.create(model=target.model, messages=SAY_HI, stream=True, **wanted):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    expect_equal("streamed choices", list(streamed.values()), texts[0])


def stops(target: Target) -> None:
    """A stop string ends the text before it, as a string and in a list, and the reason is `stop`."""
    client = client_of(target)
    long = {"model": target.model, "prompt": "Once upon a time", "temperature": 0}
    text = client.completions.create(max_tokens=16, **long).choices[0].text
    stop = text[len(text) // 2 :][:3]
    for given in (stop, [stop, "\u2603never"]):
        choice = client.completions.create(max_tokens=16, stop=given, **long).choices[0]
        expect_equal("text before the stop string", choice.text, text[: text.index(stop)])
        expect_equal("finish_reason", choice.finish_reason, "stop")


def chat_logprobs(target: Target) -> None:
    """Log probabilities of a chat: the chosen token is the best of `top_logprobs`, its bytes make up the text."""
    client = client_of(target)
    choice = client.chat.completions.create(
        model=target.model, messages=SAY_HI, logprobs=True, top_logprobs=3, **GREEDY
    ).choices[0]
    entries = choice.logprobs.content
    for entry in entries:
        best = [top.logprob for top in entry.top_logprobs]
        expect_equal("number of alternatives", len(best), 3)
        expect_equal("order of alternatives", best, sorted(best, reverse=True))
        expect_equal("log probability of the greedy token", entry.logprob, best[0])
        expect(entry.logprob <= 0, f"log probability {entry.logprob}")
    text = b"".join(bytes(entry.bytes or []) for entry in entries).decode()
    expect(text.startswith(choice.message.content), f"bytes {text!r}, text {choice.message.content!r}")


def bias(target: Target) -> None:
    """`logit_bias` of 100 forces a token, -100 forbids one."""
    client = client_of(target)
    ask = {"model": target.model, "prompt": "The", "temperature": 0, "max_tokens": 3, "logprobs": 1}
    word = target.token_ids("blue")[-1]
    forced = client.completions.create(logit_bias={str(word): 100}, **ask).choices[0]
    expect_equal("kinds of forced tokens", len(set(forced.logprobs.tokens)), 1)
    expect(forced.logprobs.tokens[0].strip() in "blue", f"forced {forced.logprobs.tokens}")
    without = client.completions.create(logit_bias={str(word): -100}, **ask).choices[0]
    expect(forced.logprobs.tokens[0] not in without.logprobs.tokens, "a forbidden token was chosen")


async def _together(target: Target, n: int) -> list[str | None]:
    async with openai.AsyncOpenAI(base_url=target.v1, api_key=target.key, max_retries=0) as client:

        async def one(number: int) -> str | None:
            messages: Any = [{"role": "user", "content": f"Count from {number}."}]
            if number % 2:
                answer = await client.chat.completions.create(model=target.model, messages=messages, **GREEDY)
                return answer.choices[0].message.content
            stream = await client.chat.completions.create(
                model=target.model, messages=messages, stream=True, **GREEDY
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        return list(await asyncio.gather(*(one(number) for number in range(n))))


def asynchronous(target: Target) -> None:
    """Eight at once, half of them streamed, get what each gets alone."""
    client = client_of(target)
    together = asyncio.run(_together(target, 8))
    for number, text in enumerate(together):
        alone = client.chat.completions.create(
            model=target.model, messages=[{"role": "user", "content": f"Count from {number}."}], **GREEDY
        )
        expect_equal(f"answer {number}", text, alone.choices[0].message.content)


CHECKS: list[Check] = [
    models,
    chat,
    chat_roles_and_parts,
    chat_stream,
    stream_without_usage,
    several_choices,
    stops,
    chat_logprobs,
    bias,
    asynchronous,
]

if __name__ == "__main__":
    main(CHECKS)
