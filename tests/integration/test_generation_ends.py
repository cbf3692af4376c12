"""Each kind of end, by its name, through every door: the engine, HTTP streamed and not, and the Python API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import llorch
from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent, ErrorEvent, Event, StartedEvent, Timings, TokenEvent, Usage
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.service import EngineService
from llorch.open_model import OpenModel
from llorch.server.app import create_app
from llorch.settings import Settings
from tests.support.generations import check_end, run
from tests.support.services import do, running, until

EOS = 2
N_CTX = 24
PROMPT = (1, 5, 7, 9)
SAMPLING: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "seed": 11}
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def service(tiny_model: Path) -> Iterator[EngineService]:
    service = running(tiny_model, ctx_size=N_CTX, threads=1)
    yield service
    do(service.stop(0))


@pytest.fixture(scope="module")
def loaded(service: EngineService) -> OpenModel:
    assert service.loaded is not None
    return service.loaded


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Iterator[llorch.Model]:
    with llorch.load(tiny_model, ctx_size=N_CTX, threads=1) as model:
        yield model


def request_of(fields: Fields) -> Request:
    names = SamplingParams.__dataclass_fields__
    params = SamplingParams(**{name: value for name, value in (SAMPLING | fields).items() if name in names})
    others = {name: fields[name] for name in ("stop", "ignore_eos") if name in fields}
    return Request("job", PROMPT, params, fields["max_tokens"], **others)


def engine_end(loaded: OpenModel, fields: Fields) -> EndEvent:
    request = request_of(fields)
    events = run(Engine(loaded, Settings(ctx_size=N_CTX)), request)["job"]
    return check_end(events, request, N_CTX, loaded.tokenizer)


# Kinds of end: what to ask for, and what must come.


def limit(loaded: OpenModel) -> tuple[Fields, Fields]:
    return {"max_tokens": 7, "ignore_eos": True}, {"finish_reason": "length", "n": 7, "matched_stop": None}


def context(loaded: OpenModel) -> tuple[Fields, Fields]:
    n = N_CTX - len(PROMPT)
    return {"max_tokens": 1000, "ignore_eos": True}, {"finish_reason": "length", "n": n, "matched_stop": None}


def eos_at_once(loaded: OpenModel) -> tuple[Fields, Fields]:
    fields = {"max_tokens": 5, "logit_bias": {EOS: 100.0}}
    return fields, {"finish_reason": "stop", "n": 0, "matched_stop": None}


def eos_later(loaded: OpenModel) -> tuple[Fields, Fields]:
    """A bias with which the model ends by itself after some tokens."""
    for bias in range(2, 12):
        fields = {"max_tokens": 18, "logit_bias": {EOS: float(bias)}}
        end = engine_end(loaded, fields)
        if end.finish_reason == "stop" and end.token_ids:
            return fields, {"finish_reason": "stop", "n": len(end.token_ids), "matched_stop": None}
    raise AssertionError("no bias makes the model end after a few tokens")


def eos_on_the_last_allowed_token(loaded: OpenModel) -> tuple[Fields, Fields]:
    fields, wanted = eos_later(loaded)
    return {**fields, "max_tokens": wanted["n"] + 1}, wanted


def limit_just_before_eos(loaded: OpenModel) -> tuple[Fields, Fields]:
    fields, wanted = eos_later(loaded)
    return {**fields, "max_tokens": wanted["n"]}, {**wanted, "finish_reason": "length"}


def stop_string(loaded: OpenModel) -> tuple[Fields, Fields]:
    """A string in the middle of what is written otherwise, which the tokens up to some one complete."""
    fields = {"max_tokens": 18, "ignore_eos": True}
    end = engine_end(loaded, fields)
    stop = end.text[5:8]
    found = engine_end(loaded, {**fields, "stop": (stop,)})
    assert len(found.token_ids) < 18
    n = len(found.token_ids)
    return {**fields, "stop": (stop,)}, {"finish_reason": "stop", "n": n, "matched_stop": stop}


def stop_string_on_the_last_allowed_token(loaded: OpenModel) -> tuple[Fields, Fields]:
    fields, wanted = stop_string(loaded)
    return {**fields, "max_tokens": wanted["n"]}, wanted


def limit_inside_a_stop_string(loaded: OpenModel) -> tuple[Fields, Fields]:
    """Its beginning, which was held back, is given out with the last token."""
    fields = {"max_tokens": 6, "ignore_eos": True}
    text = engine_end(loaded, fields).text
    stop = text[-2:] + "~~"
    return {**fields, "stop": (stop,)}, {
        "finish_reason": "length",
        "n": 6,
        "matched_stop": None,
        "text": text,
    }


KINDS = (
    limit, context, eos_at_once, eos_later, eos_on_the_last_allowed_token, limit_just_before_eos, stop_string,
    stop_string_on_the_last_allowed_token, limit_inside_a_stop_string,
)  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def body_of(fields: Fields) -> Fields:
    """The body of `POST /generate`."""
    body = {**SAMPLING, **fields, "token_ids": list(PROMPT)}
    if "logit_bias" in body:
        body["logit_bias"] = {str(token_id): bias for token_id, bias in body["logit_bias"].items()}
    return body


def events_of(text: str) -> list[Event]:
    """The events of a stream."""
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    return [event_of(json.loads(line.removeprefix("data: "))) for line in lines]


def event_of(data: Fields) -> Event:
    kinds = {"started": StartedEvent, "token": TokenEvent, "end": EndEvent, "error": ErrorEvent}
    kind = kinds[data.pop("type")]
    if kind is EndEvent:
        data["usage"], data["timings"] = Usage(**data["usage"]), Timings(**data["timings"])
        data["token_ids"] = tuple(data["token_ids"])
    made: Event = kind(**data)
    return made


async def ask(
    service: EngineService, *bodies: Fields, then: Callable[[httpx.AsyncClient], Any] | None = None
) -> Any:
    """The answers to requests that are under way together."""
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        tasks = [asyncio.create_task(client.post("/generate", json=body)) for body in bodies]
        if then is not None:
            await then(client)
        return [await task for task in tasks]


@every_kind
def test_every_door_says_the_same(
    kind: Callable[[OpenModel], tuple[Fields, Fields]],
    service: EngineService,
    loaded: OpenModel,
    model: llorch.Model,
) -> None:
    fields, wanted = kind(loaded)
    request = request_of(fields)
    direct = engine_end(loaded, fields)
    found = {
        "finish_reason": direct.finish_reason,
        "n": len(direct.token_ids),
        "matched_stop": direct.matched_stop,
    }
    assert {"text": direct.text, **found} == {"text": direct.text, **wanted}

    body = body_of(fields)
    streamed, whole = do(ask(service, body, {**body, "stream": False}))
    stream_end = check_end(events_of(streamed.text), request, N_CTX, loaded.tokenizer)
    json_end = event_of(whole.json())
    assert isinstance(json_end, EndEvent)
    result = model.generate(PROMPT, **(SAMPLING | fields))
    pieces = "".join(model.stream(PROMPT, **(SAMPLING | fields)))
    assert pieces == direct.text
    for end in (stream_end, json_end):
        assert end.usage == direct.usage
    for other in (stream_end, json_end, result):
        assert (other.text, other.token_ids) == (direct.text, direct.token_ids)
        assert (other.finish_reason, other.matched_stop, other.seed) == (
            direct.finish_reason,
            direct.matched_stop,
            11,
        )


def test_a_cancelled_generation_keeps_what_it_had(long_model: Path) -> None:
    """Over HTTP: while it is written, and while it waits."""
    service = running(long_model, parallel=1, threads=1)
    assert service.loaded is not None
    tokenizer = service.loaded.tokenizer
    body = {**body_of({"max_tokens": 60000, "ignore_eos": True})}

    async def cancel_both(client: httpx.AsyncClient) -> None:
        await until(lambda: service.n_open == 2)
        for job_id in ("waiting", "written"):
            assert (await client.post("/cancel", json={"job_id": job_id})).status_code == 200

    async def work() -> None:
        written, waiting = await ask(
            service,
            {**body, "job_id": "written"},
            {**body, "job_id": "waiting", "stream": False},
            then=cancel_both,
        )
        request = Request("written", PROMPT, SamplingParams(), 60000, ignore_eos=True)
        end = check_end(events_of(written.text), request, 65536, tokenizer)
        assert (end.finish_reason, end.matched_stop) == ("abort", None)
        other = waiting.json()
        assert (other["finish_reason"], other["token_ids"], other["text"]) == ("abort", [], "")
        assert other["usage"] == {"prompt_tokens": len(PROMPT), "completion_tokens": 0, "cached_tokens": 0}
        await service.stop(0)

    do(work())
