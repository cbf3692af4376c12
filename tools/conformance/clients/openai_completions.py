"""The `openai` client: what only text completions have, and refusals."""

from __future__ import annotations

from typing import Any

import openai

from tools.conformance.checks import Check, Target, expect, expect_equal, expect_error, main
from tools.conformance.clients.openai_session import SAY_HI, client_of

PROMPT = "The capital of France is"


def prompts_of_every_kind(target: Target) -> None:
    """A prompt is a string, strings, token ids or lists of them; choices keep the order of the prompts."""
    client = client_of(target)
    ask: dict[str, Any] = {"model": target.model, "max_tokens": 6, "temperature": 0}
    alone = [client.completions.create(prompt=p, **ask).choices[0].text for p in (PROMPT, "One two")]
    both = client.completions.create(prompt=[PROMPT, "One two"], **ask)
    expect_equal("two strings", [choice.text for choice in both.choices], alone)
    expect_equal("indices", [choice.index for choice in both.choices], [0, 1])
    ids = [target.token_ids(p) for p in (PROMPT, "One two")]
    expect_equal("ids", client.completions.create(prompt=ids[0], **ask).choices[0].text, alone[0])
    lists = client.completions.create(prompt=ids, **ask)
    expect_equal("lists of ids", [choice.text for choice in lists.choices], alone)
    expect_equal("prompt_tokens", lists.usage.prompt_tokens, sum(map(len, ids)))


def echo_and_logprobs(target: Target) -> None:
    """`echo` puts the prompt before the text; its log probabilities begin with null; `max_tokens` may be 0."""
    client = client_of(target)
    ask: dict[str, Any] = {"model": target.model, "prompt": PROMPT, "temperature": 0, "echo": True}
    choice = client.completions.create(max_tokens=4, logprobs=2, **ask).choices[0]
    expect(choice.text.startswith(PROMPT), f"the text is {choice.text!r}")
    found = choice.logprobs
    lengths = [len(a) for a in (found.tokens, found.token_logprobs, found.top_logprobs, found.text_offset)]
    expect_equal("lengths of the arrays", len(set(lengths)), 1)
    expect_equal("first log probability", (found.token_logprobs[0], found.top_logprobs[0]), (None, None))
    expect_equal("tokens joined", "".join(found.tokens), choice.text)
    for start, token in zip(found.text_offset, found.tokens, strict=True):
        expect_equal("text at the offset", choice.text[start : start + len(token)], token)
    for value, top in zip(found.token_logprobs[-4:], found.top_logprobs[-4:], strict=True):
        expect_equal("greedy token's log probability", value, max(top.values()))
    nothing = client.completions.create(max_tokens=0, logprobs=2, **ask)
    expect_equal("echo alone", nothing.choices[0].text, PROMPT)
    expect_equal("generated tokens", nothing.usage.completion_tokens, 0)
    n_prompt = nothing.usage.prompt_tokens
    expect_equal(
        "the prompt's log probabilities",
        nothing.choices[0].logprobs.token_logprobs,
        found.token_logprobs[:n_prompt],
    )


def completion_stream(target: Target) -> None:
    """A streamed completion is the whole one in pieces; token ids come with them when asked for."""
    client = client_of(target)
    ask: dict[str, Any] = {"model": target.model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**ask, extra_body={"return_token_ids": True}).choices[0]
    text = ""
    ids: list[int] = []
    for chunk in client.completions.create(stream=True, **ask, extra_body={"return_token_ids": True}):
        for choice in chunk.choices:
            text += choice.text
            ids += choice.model_extra.get("token_ids") or []
    expect_equal("text", text, whole.text)
    expect_equal("token ids", ids, whole.model_extra["token_ids"])


def sampling(target: Target) -> None:
    """A seed repeats a sampled text; penalties and nucleus are taken and change nothing of that."""
    client = client_of(target)
    ask: dict[str, Any] = {"model": target.model, "prompt": PROMPT, "max_tokens": 12, "temperature": 1.2}
    for more in ({}, {"top_p": 0.9}, {"presence_penalty": 1.5, "frequency_penalty": -0.5}):
        texts = {client.completions.create(seed=11, **ask, **more).choices[0].text for _ in range(2)}
        expect_equal(f"texts of one seed with {more}", len(texts), 1)
    texts = {client.completions.create(seed=seed, **ask).choices[0].text for seed in range(4)}
    expect(len(texts) > 1, "four seeds, one text")


def refusals(target: Target) -> None:
    """What cannot be served is BadRequestError in OpenAI's shape, which names the parameter."""
    client = client_of(target)
    bad: list[tuple[str, dict[str, Any]]] = [
        ("temperature", {"temperature": 3}),
        ("temperature", {"temperature": "hot"}),
        ("n", {"n": 0}),
        ("max_tokens", {"max_tokens": -5}),
        ("stop", {"stop": ["x"] * 100}),
        ("logit_bias", {"logit_bias": {"a": 1}}),
        ("messages", {"messages": []}),
        ("messages", {"messages": [{"role": "nobody", "content": "x"}]}),
        ("top_logprobs", {"logprobs": True, "top_logprobs": 1000}),
    ]
    for name, fields in bad:
        body: dict[str, Any] = {"model": target.model, "messages": SAY_HI, **fields}
        error = expect_error(openai.BadRequestError, f"{fields}", client.chat.completions.create, **body)
        expect(name in str(error.param), f"{fields}: param is {error.param!r}")
        expect(bool(error.body.get("message")), f"{fields}: no message")
        expect_equal("type", error.type, "invalid_request_error")
    for fields in ({"best_of": 3}, {"prompt": [-1]}, {"prompt": [10**9]}, {"prompt": []}):
        body = {"model": target.model, "prompt": PROMPT, **fields}
        expect_error(openai.BadRequestError, f"{fields}", client.completions.create, **body)


def other_errors(target: Target) -> None:
    """A wrong key, an unknown model, an over-long prompt and an unknown route have errors of their own."""
    client = client_of(target)
    stranger = client.with_options(api_key="wrong")
    expect_error(openai.AuthenticationError, "wrong key", stranger.models.list)
    error = expect_error(
        openai.BadRequestError,
        "over-long prompt",
        client.completions.create,
        model=target.model,
        prompt=[5] * 100_000,
    )
    expect(error.code in ("context_length_exceeded", 400), f"code {error.code!r}")
    expect_error(
        openai.NotFoundError,
        "no such route",
        client.images.generate,
        model=target.model,
        prompt="a cat",
    )


CHECKS: list[Check] = [
    prompts_of_every_kind,
    echo_and_logprobs,
    completion_stream,
    sampling,
    refusals,
    other_errors,
]

if __name__ == "__main__":
    main(CHECKS)
