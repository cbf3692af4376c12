"""The `openai` client: embeddings, as floats and in base64, which it asks for by itself."""

from __future__ import annotations

import math
from typing import Any

import openai

from tools.conformance.checks import Check, Target, expect, expect_equal, expect_error, main
from tools.conformance.clients.openai_session import client_of

TEXTS = ["A cat sleeps.", "A dog is asleep.", "Granite is a rock."]


def _ask(target: Target, **fields: Any) -> Any:
    return client_of(target).embeddings.create(model=target.model, **fields)


def vectors(target: Target) -> None:
    """Texts get vectors of length 1 in their order, the same whether alone or together, with their usage."""
    together = _ask(target, input=TEXTS)
    expect_equal("indices", [item.index for item in together.data], [0, 1, 2])
    expect_equal(
        "objects", {together.object, *(item.object for item in together.data)}, {"list", "embedding"}
    )
    alone = [_ask(target, input=text).data[0].embedding for text in TEXTS]
    expect_equal("vectors alone", alone, [item.embedding for item in together.data])
    for vector in alone:
        length = math.sqrt(sum(value * value for value in vector))
        expect(abs(length - 1) < 1e-5, f"a vector of length {length}")
    n_tokens = sum(len(target.token_ids(text)) for text in TEXTS)
    expect_equal("prompt_tokens", together.usage.prompt_tokens, n_tokens)
    expect_equal("total_tokens", together.usage.total_tokens, n_tokens)


def encodings(target: Target) -> None:
    """`float`, `base64` and the client's own choice are the same numbers."""
    own = _ask(target, input=TEXTS[0]).data[0].embedding
    expect_equal("float", _ask(target, input=TEXTS[0], encoding_format="float").data[0].embedding, own)
    coded = _ask(target, input=TEXTS[0], encoding_format="base64").data[0].embedding
    expect(isinstance(coded, str), "base64 is decoded where it was asked for")
    expect_equal("characters", len(coded), math.ceil(4 * len(own) / 3) * 4)


def inputs(target: Target) -> None:
    """Token ids and lists of them have the vectors of their texts; a size is taken if it is the model's."""
    ids = [target.token_ids(text) for text in TEXTS]
    wanted = [item.embedding for item in _ask(target, input=TEXTS).data]
    expect_equal("ids", _ask(target, input=ids[1]).data[0].embedding, wanted[1])
    expect_equal("lists of ids", [item.embedding for item in _ask(target, input=ids).data], wanted)
    sized = _ask(target, input=TEXTS[0], dimensions=len(wanted[0]))
    expect_equal("dimensions", sized.data[0].embedding, wanted[0])


def many(target: Target) -> None:
    """Two hundred inputs are one answer."""
    found = _ask(target, input=[TEXTS[i % 3] for i in range(200)]).data
    expect_equal("inputs", len(found), 200)
    expect_equal("distinct vectors", len({tuple(item.embedding) for item in found}), 3)


def refusals(target: Target) -> None:
    """What cannot be served is BadRequestError, which names the parameter; a wrong key is its own error."""
    wrong: tuple[dict[str, Any], ...] = (
        {"input": ""},
        {"input": []},
        {"input": [10**9]},
        {"input": ["a"] * 2049},
        {"input": "a", "dimensions": 3},
    )
    for fields in wrong:
        error = expect_error(openai.BadRequestError, f"{fields}"[:60], _ask, target, **fields)
        expect(error.param in fields, f"param is {error.param!r}")
    error = expect_error(openai.BadRequestError, "over-long", _ask, target, input=[5] * 100_000)
    expect_equal("code", error.code, "context_length_exceeded")
    stranger = client_of(target).with_options(api_key="wrong")
    expect_error(
        openai.AuthenticationError, "wrong key", stranger.embeddings.create, model=target.model, input="a"
    )


CHECKS: list[Check] = [vectors, encodings, inputs, many, refusals]

if __name__ == "__main__":
    main(CHECKS)
