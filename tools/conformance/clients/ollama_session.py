"""The `ollama` client and `langchain-ollama` for `/api/...`."""

from __future__ import annotations

import json
from typing import Any

import ollama
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

from tools.conformance.checks import Check, Target, expect, expect_equal, expect_error, main

MESSAGES = [{"role": "user", "content": "Say hi."}]
GREEDY = {"temperature": 0, "num_predict": 12}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 10}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def _headers(target: Target) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.key}"}


def _client(target: Target) -> ollama.Client:
    return ollama.Client(host=target.url, headers=_headers(target), timeout=120)


def models(target: Target) -> None:
    """The model is listed, shown and running, under one name."""
    client = _client(target)
    (listed,) = client.list().models
    (running,) = client.ps().models
    expect_equal("name", listed.model, running.model)
    shown = client.show(listed.model)
    expect_equal("details", shown.details, listed.details)
    expect("completion" in shown.capabilities, f"capabilities {shown.capabilities}")
    expect(shown.modelinfo["llama.context_length"] > 0, "no context length")


def chats(target: Target) -> None:
    """A chat has text, counts and durations; streamed it is the same."""
    client = _client(target)
    answer = client.chat(target.model, MESSAGES, options=GREEDY)
    expect(answer.done_reason in ("stop", "length"), f"done_reason {answer.done_reason!r}")
    expect(0 < answer.eval_count <= 12 and answer.eval_duration > 0, f"eval {answer.eval_count}")
    parts = list(client.chat(target.model, MESSAGES, options=GREEDY, stream=True))
    expect_equal("text", "".join(part.message.content for part in parts), answer.message.content)
    expect_equal("counts", parts[-1].eval_count, answer.eval_count)
    probable = client.chat(target.model, MESSAGES, options=GREEDY, logprobs=True, top_logprobs=3)
    expect_equal("log probabilities", len(probable.logprobs), answer.eval_count)
    expect_equal("alternatives", {len(one.top_logprobs) for one in probable.logprobs}, {3})


def texts(target: Target) -> None:
    """A text has a context, with which the next one goes on; raw prompts have none."""
    client = _client(target)
    first = client.generate(target.model, "Why is the sky blue?", system="Be brief.", options=GREEDY)
    expect_equal("context", len(first.context), first.prompt_eval_count + first.eval_count)
    second = client.generate(target.model, "And red?", context=first.context, options=GREEDY)
    expect(second.prompt_eval_count > len(first.context), "the context is not in the prompt")
    raw = client.generate(target.model, "Once upon a time", raw=True, options=GREEDY)
    expect(raw.response != "" and raw.context is None, f"raw: {raw}")
    expect_equal("presence", client.generate(target.model).done_reason, "load")


def forms(target: Target) -> None:
    """Answers are bound to JSON and to a schema."""
    client = _client(target)
    bound = client.chat(target.model, MESSAGES, format=PERSON, options={"num_predict": 100, "temperature": 0})
    expect_equal("keys", set(json.loads(bound.message.content)), {"name", "age"})
    free = client.generate(target.model, "A person", format="json", options={"num_predict": 30, "seed": 1})
    expect(free.response.lstrip().startswith("{"), f"not JSON: {free.response!r}")


def vectors(target: Target) -> None:
    """Vectors have length 1; the older path has the same direction."""
    client = _client(target)
    embedded = client.embed(target.model, ["Say hi.", "Hello"]).embeddings
    for vector in embedded:
        expect(abs(sum(x * x for x in vector) - 1) < 1e-5, "a vector's length is not 1")
    raw = client.embeddings(target.model, "Say hi.").embedding
    length = sum(x * x for x in raw) ** 0.5
    expect(
        max(abs(x / length - y) for x, y in zip(raw, embedded[0], strict=True)) < 1e-5, "another direction"
    )


def errors(target: Target) -> None:
    """Bad requests, wrong keys and changes to a store of models are errors with words."""
    client = _client(target)
    bad: list[tuple[int, Any]] = [
        (400, lambda: client.chat(target.model, MESSAGES, options={"temperature": 9})),
        (400, lambda: client.chat(target.model, MESSAGES, think=True)),
        (401, lambda: ollama.Client(host=target.url).chat(target.model, MESSAGES)),
        (501, lambda: client.pull("another")),
    ]
    for status, ask in bad:
        error = expect_error(ollama.ResponseError, f"{status}", ask)
        expect_equal("status", error.status_code, status)
        expect(len(error.error) > 10, f"no words: {error.error!r}")


def langchain(target: Target) -> None:
    """LangChain's classes: chats, streams, structured output, texts, vectors."""
    more = {"base_url": target.url, "client_kwargs": {"headers": _headers(target)}}
    chat = ChatOllama(model=target.model, temperature=0, num_predict=12, **more)
    answer = chat.invoke("Say hi.")
    expect_equal("stream", "".join(part.content for part in chat.stream("Say hi.")), answer.content)
    expect(answer.usage_metadata["output_tokens"] > 0, "no counts")
    long = ChatOllama(model=target.model, temperature=0, num_predict=100, **more)
    expect_equal(
        "structured",
        set(long.with_structured_output(PERSON, method="json_schema").invoke("A person")),
        {"name", "age"},
    )
    text = OllamaLLM(model=target.model, temperature=0, num_predict=12, **more).invoke("Say hi.")
    expect_equal("text", text, answer.content)
    expect(len(OllamaEmbeddings(model=target.model, **more).embed_query("Hello")) > 1, "no vector")


CHECKS: list[Check] = [models, chats, texts, forms, vectors, errors, langchain]

if __name__ == "__main__":
    main(CHECKS)
