"""Several generations that make one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from llorch.engine.events import EndEvent, ErrorEvent, Event, LastEvent
from llorch.engine.mailbox import ChoiceEvent
from llorch.engine.service import EngineService
from llorch.errors import DuplicateJobError, QueueFullError, RequestError
from llorch.open_model import OpenModel
from llorch.server.choices import Choices, submit_choices
from llorch.server.errors import GenerationFailedError
from tests.support.services import ENDLESS, GREEDY, do, end_of, running, until

KEEP_ALIVE = b": keep-alive\n\n"
PROMPTS = ("Once upon a time", "Hello world", "The dog")


@pytest.fixture(scope="module")
def service(long_model: Path) -> Iterator[EngineService]:
    """Two sequences at a time, three requests may wait."""
    service = running(long_model)
    yield service
    asyncio.run(service.stop(0))


def asked(*prompts: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"prompt": prompt, "params": GREEDY, "max_tokens": 5, **fields} for prompt in prompts]


async def events_of(choices: Choices) -> list[ChoiceEvent]:
    return [event async for event in choices.events()]


def client(leaves: asyncio.Event | None = None) -> Request:
    """A request whose client stays, or leaves when it is told to."""

    async def receive() -> dict[str, Any]:
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http"}, receive)


def test_events_of_all_are_merged_each_in_its_order(service: EngineService) -> None:
    async def main() -> None:
        choices = await submit_choices(service, asked(*PROMPTS))
        found = await events_of(choices)
        for k, prompt in enumerate(PROMPTS):
            own = [event for index, event in found if index == k]
            assert [event.type for event in own] == ["started", *["token"] * 5, "end"]
            end = own[-1]
            assert isinstance(end, EndEvent)
            assert end.text == (await end_of(service, prompt=prompt, max_tokens=5)).text
        assert choices.prompts[0] == tuple(service.loaded.tokenizer.encode(PROMPTS[0]))  # type: ignore[union-attr]

    do(main())


def test_outcomes_stand_in_the_order_of_the_choices(service: EngineService) -> None:
    async def main() -> None:
        options = {"n_logprobs": 1, "n_prompt_logprobs": 0}
        choices = await submit_choices(service, asked(*PROMPTS, options=options))
        outcomes = await choices.outcomes(client())
        for prompt, outcome in zip(choices.prompts, outcomes, strict=True):
            assert outcome.prompt is not None
            assert len(outcome.prompt.logprobs) == len(prompt) == outcome.end.usage.prompt_tokens
            assert tuple(token.id for token in outcome.tokens) == outcome.end.token_ids
        plain = await (await submit_choices(service, asked(*PROMPTS))).outcomes(client())
        assert [outcome.end.text for outcome in plain] == [outcome.end.text for outcome in outcomes]
        assert plain[0].tokens == []
        assert plain[0].prompt is None

    do(main())


def test_places_are_counted_before_anything_is_tokenised(service: EngineService) -> None:
    n_tokenised = 0

    def encode(loaded: OpenModel) -> list[int]:
        nonlocal n_tokenised
        n_tokenised += 1
        return [1, 2]

    async def main() -> None:
        with pytest.raises(QueueFullError):
            await submit_choices(service, [{"encode": encode, "params": GREEDY}] * 6)  # there are five places
        assert (n_tokenised, service.n_open) == (0, 0)
        await (await submit_choices(service, [{"encode": encode, "params": GREEDY}] * 5)).outcomes(client())
        assert n_tokenised == 5

    do(main())


def test_two_of_one_name_are_refused_together(service: EngineService) -> None:
    async def main() -> None:
        with pytest.raises(DuplicateJobError):
            await submit_choices(service, asked("Hello", "Hello", job_id="twin"))
        assert service.n_open == 0

    do(main())


def test_all_are_admitted_or_none(service: EngineService) -> None:
    async def main() -> None:
        with pytest.raises(QueueFullError):
            await submit_choices(service, asked(*["Hello"] * 6, max_tokens=60000))
        await until(lambda: service.n_open == 0)
        with pytest.raises(RequestError):
            await submit_choices(service, [*asked("Hello", max_tokens=60000), {"token_ids": [10**6]}])
        await until(lambda: service.n_open == 0)

    do(main())


def test_one_that_fails_ends_the_answer_and_all_others(
    service: EngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = ErrorEvent("internal_error", "it failed", retriable=False)

    async def main() -> None:
        choices = await submit_choices(service, [ENDLESS, ENDLESS])
        second = choices._submissions[1]
        found: list[Event] = []
        async for _, event in choices.events():
            found.append(event)
            if len(found) == 4:
                second.mailbox.put([(1, failure)])
        assert found[-1] is failure
        assert not [event for event in found[:-1] if isinstance(event, LastEvent)]
        await until(lambda: service.n_open == 0)
        choices = await submit_choices(service, [ENDLESS, ENDLESS])
        choices._submissions[0].mailbox.put([(0, replace(failure, retriable=True))])
        with pytest.raises(GenerationFailedError) as caught:
            await choices.outcomes(client())
        assert caught.value.status == 503
        await until(lambda: service.n_open == 0)

    do(main())


def test_a_client_that_leaves_ends_all(service: EngineService) -> None:
    async def main() -> None:
        leaves = asyncio.Event()
        choices = await submit_choices(service, [ENDLESS] * 3)  # one of them waits
        waiting = asyncio.create_task(choices.outcomes(client(leaves)))
        await asyncio.sleep(0.05)
        leaves.set()
        outcomes = await waiting
        assert [outcome.end.finish_reason for outcome in outcomes] == ["abort"] * 3
        assert service.n_open == 0

    do(main())


def test_a_stream_that_is_closed_early_ends_all(service: EngineService) -> None:
    async def main() -> None:
        choices = await submit_choices(service, [ENDLESS] * 3)
        events = choices.events()
        await anext(events)
        await events.aclose()
        await until(lambda: service.n_open == 0)
        never_entered = await submit_choices(service, [ENDLESS] * 2)
        never_entered.finish()
        await until(lambda: service.n_open == 0)

    do(main())


def test_how_each_ended_is_logged(service: EngineService, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        keywords = asked(*PROMPTS[:2])
        for k, one in enumerate(keywords):
            one["job_id"] = f"answer.{k}"
        with caplog.at_level("INFO"):
            await (await submit_choices(service, keywords)).outcomes(client())

    do(main())
    assert [line.partition(",")[0] for line in caplog.messages] == ["answer.0: length", "answer.1: length"]


def test_a_stream_is_kept_alive_and_a_client_that_leaves_it_ends_all(long_model: Path) -> None:
    service = running(long_model, parallel=1, keep_alive_s=0.01)
    sent: list[bytes] = []

    async def main() -> None:
        leaves = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))
            if sent.count(KEEP_ALIVE) >= 2 and b"".join(sent).count(b"first") == 2:
                leaves.set()

        choices = await submit_choices(service, [ENDLESS] * 2)  # one of them waits
        stream = choices.stream(lambda event: b"first" if event[1].type == "started" else b"")
        await asyncio.wait_for(stream({"type": "http", "method": "POST"}, receive, send), 60)
        await until(lambda: service.n_open == 0)
        await service.stop(0)

    do(main())
    assert b"".join(sent).count(b"first") == 2
    assert set(sent) <= {b"first", b"firstfirst", KEEP_ALIVE, b""}  # what comes together is sent together
    assert sent.count(b"") <= 2  # head and end: what is worth no frame sends nothing
