"""What the soak test calls wrong. The server it speaks to here is a small one that can be told to misbehave."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from tools.performance.soaking import bad_clients, good_clients
from tools.performance.soaking.golden import Golden
from tools.performance.soaking.observer import Sample
from tools.performance.soaking.vectors import vectors_of
from tools.performance.soaking.verdict import Tolerances, faults
from tools.performance.soaking.wire import SoakError

QUIET = Sample(
    at_s=0.0,
    rss_anon_mib=90.0,
    n_files=12,
    n_threads=7,
    kv_positions=2048,
    kv_used=0,
    n_busy_slots=0,
    health_s=0.01,
)
ALLOWED = Tolerances()


def series(**last: float) -> list[Sample]:
    """Samples whose values go evenly from those of `QUIET` to these."""
    found = []
    for i in range(31):
        values = {
            name: getattr(QUIET, name) + (value - getattr(QUIET, name)) * i / 30
            for name, value in last.items()
        }
        found.append(dataclasses.replace(QUIET, at_s=float(i), **values))  # type: ignore[arg-type]
    return found


def judged(samples: list[Sample], probes_s: tuple[float, ...] = (0.01,), **last: Any) -> list[str]:
    return faults(QUIET, samples, dataclasses.replace(QUIET, **last), probes_s, ALLOWED)


def test_a_flat_run_has_no_faults() -> None:
    assert judged(series()) == []


def test_growth_during_the_warm_up_is_none() -> None:
    samples = [dataclasses.replace(s, rss_anon_mib=min(90 + 6 * s.at_s, 150)) for s in series()]
    assert judged(samples) == []


@pytest.mark.parametrize(
    ("samples", "last", "message"),
    [
        (series(rss_anon_mib=103), {}, "anonymous memory grew by 8.7 MiB, allowed are 8"),
        (series(), {"n_files": 19}, "19 descriptors are open at the end, 12 were before"),
        (series(n_threads=40), {}, "there were 40"),
        (series(), {"kv_used": 32}, "32 positions of the KV cache and 0 places are in use, by nobody"),
        (series(), {"n_busy_slots": 1}, "0 positions of the KV cache and 1 places"),
        (series()[:3], {}, "too short"),
    ],
)
def test_what_grows_or_is_lost_is_named(samples: list[Sample], last: dict[str, Any], message: str) -> None:
    (fault,) = judged(samples, **last)
    assert message in fault


def test_slow_probes_are_a_fault_unless_they_are_few() -> None:
    assert judged(series(), (*[0.01] * 199, 5.0)) == []
    assert "99th percentile" in judged(series(), (*[0.01] * 90, *[5.0] * 10))[0]


def answered(*replies: bytes) -> Callable[[Callable[[int], Awaitable[Any]]], Any]:
    """Runs a client against a server that gives these answers, one a connection, the last for ever."""

    def run(client: Callable[[int], Awaitable[Any]]) -> Any:
        left = list(replies)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
            writer.close()

        async def go() -> Any:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with server:
                return await client(server.sockets[0].getsockname()[1])

        return asyncio.run(go())

    return run


def reply(status: int, body: Any = None, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", *headers, "", json.dumps(body)]).encode()


@pytest.mark.parametrize("client", good_clients.GOOD, ids=lambda client: str(client.__name__))
def test_no_good_client_takes_a_500(client: good_clients.Client) -> None:
    with pytest.raises(SoakError, match="500"):
        answered(reply(500))(lambda port: client(port, random.Random(0)))


@pytest.mark.parametrize(
    "client",
    [
        bad_clients.wrong_types,
        bad_clients.too_much,
        bad_clients.crowd,
        bad_clients.garbage,
        bad_clients.half_closed,
    ],
    ids=lambda client: str(client.__name__),
)
def test_no_bad_client_takes_a_500(client: good_clients.Client) -> None:
    with pytest.raises(SoakError, match="500"):
        answered(reply(500))(lambda port: client(port, random.Random(0)))


def test_a_full_queue_must_say_when_to_come_back() -> None:
    def run(data: bytes) -> Any:
        return answered(data)(lambda port: good_clients.generate_whole(port, random.Random(0)))

    assert run(reply(503, None, "Retry-After: 2")) == "busy"
    with pytest.raises(SoakError, match="503"):
        run(reply(503))


def encoded(numbers: list[float]) -> str:
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[0.6, 0.8]], "expected 2 vectors"),
        ([[0.6, 0.8], [1.0]], "of one size"),
        ([[0.6, 0.8], [0.6, 0.7]], "of length 1"),
        ([[0.6, 0.8], [float("nan"), 1.0]], "of length 1"),
        ([encoded([0.6, 0.8]), encoded([1.0, 1.0])], "of length 1"),
    ],
)
def test_vectors_that_cannot_be_are_a_fault(values: list[Any], words: str) -> None:
    with pytest.raises(SoakError, match=words):
        vectors_of(values, 2)


def test_vectors_are_the_same_as_numbers_and_as_bytes() -> None:
    numbers = [float(number) for number in np.array([0.6, 0.8], "<f4")]
    assert (vectors_of([encoded([0.6, 0.8])], 1) == vectors_of([numbers], 1)).all()


def stream(text: str) -> bytes:
    frames = [
        {"type": "token", "text": "Once"},
        {"type": "token", "text": " more"},
        {"type": "end", "text": text, "finish_reason": "length"},
    ]
    data = "".join(f"event: {frame['type']}\ndata: {json.dumps(frame)}\n\n" for frame in frames)
    return b"HTTP/1.1 200 OK\r\n\r\n" + data.encode()


def test_a_stream_must_fit_its_end() -> None:
    def run(data: bytes) -> Any:
        return answered(data)(lambda port: good_clients.generate_stream(port, random.Random(0)))

    assert run(stream("Once more")) == "ok"
    with pytest.raises(SoakError, match="does not fit its end"):
        run(stream("Once"))


def test_another_bit_in_a_golden_answer_is_a_fault() -> None:
    first: dict[str, Any] = {"content": "a", "tokens": [5], "completion_probabilities": [{"logprob": -0.5}]}
    other = first | {"completion_probabilities": [{"logprob": -0.5000000000000001}]}
    first |= {"data": [[0.5]], "usage": {}}
    other |= {"data": [[0.25]], "usage": {}}
    golden = Golden()

    async def ask_twice(port: int) -> list[str]:
        return [await golden.check(port, random.Random(3)) for _ in range(2)]

    assert answered(reply(200, first))(ask_twice) == ["same", "same"]
    with pytest.raises(SoakError, match="golden request"):
        answered(reply(200, other))(ask_twice)
    assert golden.n_checked == 2


def test_a_taken_prompt_beyond_the_context_is_a_fault() -> None:
    with pytest.raises(SoakError, match="was taken"):
        answered(reply(200, {}))(lambda port: bad_clients.too_much(port, random.Random(0)))
