"""Every field that `/openapi.json` tells of, on every route: null, of a wrong type, at its limits and past them.

The routes and fields are those of the running server, so one that is added is tried too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.live_server import WAIT_S, LiveServer

KEY = "tahini"
MESSAGES = [{"role": "user", "content": "Hi"}]
VALID: dict[str, dict[str, Any]] = {
    "/generate": {"prompt": "Hi", "max_tokens": 1, "stream": False},
    "/cancel": {"job_id": "nobody"},
    "/completion": {"prompt": "Hi", "n_predict": 1},
    "/tokenize": {"content": "Hi"},
    "/detokenize": {"tokens": [5]},
    "/apply-template": {"messages": MESSAGES},
    "/embedding": {"input": "Hi"},
    "/v1/completions": {"prompt": "Hi", "max_tokens": 1},
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 1},
    "/v1/chat/completions/input_tokens": {"messages": MESSAGES},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 1},
    "/v1/responses/input_tokens": {"input": "Hi"},
    "/v1/embeddings": {"input": "Hi"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 1},
    "/v1/messages/count_tokens": {"messages": MESSAGES},
    "/api/chat": {"messages": MESSAGES, "options": {"num_predict": 1}, "stream": False},
    "/api/generate": {"prompt": "Hi", "options": {"num_predict": 1}, "stream": False},
    "/api/embed": {"input": "Hi"},
    "/api/embeddings": {"prompt": "Hi"},
    "/api/show": {},
    "/trace/start": {},
    "/trace/stop": {},
}
NEEDS: dict[str, dict[str, Any]] = {
    "top_logprobs": {"logprobs": True, "include": ["message.output_text.logprobs"]},
    "token_ids": {"prompt": None},
    "continue_final_message": {"messages": [*MESSAGES, {"role": "assistant", "content": "I"}]},
}
"""What must stand beside these fields, on `/generate` and in chats."""
EXPECTED = {"/cancel": {404}, "/trace/start": {200, 409}, "/trace/stop": {200, 409}}
"""Statuses of valid bodies, where that is not 200: there is no such job, and no trace, or one already."""
ODD_VALUES: list[object] = [
    False, 0, -1, 2**64, -(10**30), 0.5, 1e308, "", "text", "\ud800", "x" * 5000, [], [[]], [None], [0], ["a"] * 200,
    [{}], {}, {"": None}, {"0": 0}, {"type": []},
]  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("demo") / "log"
    server = LiveServer("demo", log, "--ctx-size", "64", LLORCH_ADMIN_KEY=KEY).wait_until_ready()
    with httpx.Client(base_url=server.url, timeout=WAIT_S, headers={"X-Api-Key": KEY}) as client:
        yield client
    server.assert_alive()
    assert "ERROR" not in server.log
    assert server.stop() == 0


@pytest.fixture(scope="module")
def fields(client: httpx.Client) -> dict[str, dict[str, dict[str, Any]]]:
    """The schemas of the fields of each route that takes a body."""
    paths = client.get("/openapi.json").json()["paths"]
    found = {}
    for path, methods in paths.items():
        if "post" in methods:
            schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
            found[path] = schema["properties"]
    return found


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    """With ASCII alone, as JSON can spell lone surrogates."""
    answer = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    if path == "/trace/start" and answer.status_code == 200:
        assert client.post("/trace/stop").status_code == 200
    return answer


def beside(path: str, name: str) -> dict[str, Any]:
    return {
        **VALID[path],
        **(
            NEEDS.get(name, {})
            if path.startswith(("/v1/chat", "/v1/responses", "/generate", "/apply", "/api/"))
            else {}
        ),
    }


def kinds_of(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a field may be, each by itself."""
    return [
        kind for one in schema.get("anyOf", [schema]) for kind in (kinds_of(one) if "anyOf" in one else [one])
    ]


def edges(schema: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Values at the limits of a field, and values just past those of all that it may be."""
    taken, refused = list[Any](), list[Any]()
    kinds = [kind for kind in kinds_of(schema) if kind.get("type") != "null"]
    for kind in kinds:
        match kind.get("type"):
            case "integer" | "number":
                taken += [kind[end] for end in ("minimum", "maximum") if end in kind]
                if len(kinds) == 1:
                    refused += [kind["minimum"] - 1] if "minimum" in kind else []
                    refused += [kind["maximum"] + 1] if "maximum" in kind else []
                    refused += [kind["exclusiveMinimum"]] if "exclusiveMinimum" in kind else []
            case "array" if "maxItems" in kind and kind.get("items", {}).get("type") in ("string", "integer"):
                if "enum" in kind["items"] or kind.get("uniqueItems"):
                    continue
                longest = kind["items"].get("maxLength")
                item: Any = "x" if kind["items"]["type"] == "string" else 0
                taken += [[item] * kind["maxItems"], [item * longest] if longest else [item]]
                refused += [[item] * (kind["maxItems"] + 1), [item * (longest + 1)] if longest else [-1]]
            case "boolean":
                taken += [kind["const"]] if "const" in kind else [True, False]
                refused += [0, "true"] if len(kinds) == 1 else []
    return taken, refused


def test_the_table_above_has_every_route_that_takes_a_body(fields: dict[str, Any]) -> None:
    assert set(fields) == set(VALID)
    assert {"logprobs", "adaptive_target", "adaptive_decay", "stop_token_ids"} <= fields["/generate"].keys()
    assert {"post_sampling_probs", "adaptive_target"} <= fields["/completion"].keys()
    tried = [edges(schema) for schema in fields["/generate"].values()]
    assert min(sum(len(taken) for taken, _ in tried), sum(len(refused) for _, refused in tried)) > 30


@pytest.mark.parametrize("path", VALID)
def test_null_in_every_other_field_is_as_if_nothing_were_said(
    client: httpx.Client, fields: dict[str, Any], path: str
) -> None:
    answer = post(client, path, {**dict.fromkeys(fields[path]), **VALID[path]})
    assert answer.status_code in EXPECTED.get(path, {200}), answer.text


@pytest.mark.parametrize(
    "path",
    [path for path in VALID if path not in ("/v1/completions", "/v1/chat/completions", "/v1/responses")],
)
def test_odd_values_of_every_field_are_answered_or_refused(
    client: httpx.Client, fields: dict[str, Any], path: str
) -> None:
    """Those of OpenAI's routes are tried in `test_openai_bodies`."""
    for name in fields[path]:
        for value in ODD_VALUES:
            answer = post(client, path, {**beside(path, name), name: value})
            assert answer.status_code in {200, 400, *EXPECTED.get(path, ())}, (name, answer.text)
            if answer.status_code == 400:
                document = answer.json()
                assert document.get("errors") or document["error"]
                assert "xxxxxxxx" not in answer.text


@pytest.mark.parametrize("path", VALID)
def test_what_the_schema_takes_is_taken_and_what_lies_beyond_is_refused_by_name(
    client: httpx.Client, fields: dict[str, Any], path: str
) -> None:
    for name, schema in fields[path].items():
        taken, refused = edges(schema)
        for value in taken:
            answer = post(client, path, {**beside(path, name), name: value})
            assert answer.status_code in EXPECTED.get(path, {200}), (name, value, answer.text)
        for value in refused:
            answer = post(client, path, {**beside(path, name), name: value})
            assert answer.status_code == 400, (name, value, answer.text)
            assert name in answer.text
