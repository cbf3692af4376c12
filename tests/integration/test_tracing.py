"""Spans of a real server, taken by a real receiver: one for each request, its generations below it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_server import LiveServer, events, wait_until

pytest.importorskip("opentelemetry.proto", reason="the extra `otel` is not installed")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")

from tests.support.otlp_collector import Collector, attributes_of, collecting

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
ENDLESS: dict[str, Any] = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def live(
    long_model: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    log = tmp_path_factory.mktemp("tracing") / "log"
    server = LiveServer(long_model, log, "-a", "m", "--otel-endpoint", collector.url, **QUICK)
    yield server.wait_until_ready()
    assert server.stop() == 0


def test_a_request_is_a_span_with_its_generation_and_the_parts_of_that_below(
    live: LiveServer, collector: Collector
) -> None:
    body = {"prompt": "my secret world", "max_tokens": 5, "ignore_eos": True, "stream": False, "job_id": "j"}
    headers = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "X-Request-Id": "r-1"}
    end = live.post("/generate", json={**body, "temperature": 0.5}, headers=headers).json()
    (request,) = collector.wait_for("POST /generate")
    (generation,) = collector.wait_for("text_completion m")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert generation.parent_span_id == request.span_id
    parts = collector.below(generation)
    assert list(parts) == ["queue", "prefill", "decode"]
    assert {span.trace_id.hex() for span in (generation, *parts.values())} == {TRACE_ID}
    edges = [request.start_time_unix_nano, generation.start_time_unix_nano]
    edges += [
        time for span in parts.values() for time in (span.start_time_unix_nano, span.end_time_unix_nano)
    ]
    edges += [generation.end_time_unix_nano, request.end_time_unix_nano]
    assert all(late >= early - 100_000 for early, late in itertools.pairwise(edges))
    decode_s = (parts["decode"].end_time_unix_nano - parts["decode"].start_time_unix_nano) / 1e9
    assert decode_s == pytest.approx(end["timings"]["decode_s"], abs=0.05)
    said = attributes_of(generation)
    assert said["gen_ai.request.model"] == said["gen_ai.response.model"] == "m"
    assert said["gen_ai.response.id"] == "j"
    assert said["gen_ai.request.temperature"] == 0.5
    assert said["gen_ai.request.max_tokens"] == 5
    assert said["gen_ai.usage.input_tokens"] == end["usage"]["prompt_tokens"]
    assert said["gen_ai.usage.output_tokens"] == 5
    assert said["gen_ai.usage.cache_read.input_tokens"] == end["usage"]["cached_tokens"]
    assert said["gen_ai.response.finish_reasons"] == ["length"]
    assert attributes_of(request) == {
        "http.request.method": "POST",
        "http.route": "/generate",
        "http.response.status_code": 200,
        "llorch.request_id": "r-1",
    }
    assert collector.resources[0]["service.name"] == "llorch"
    assert collector.paths == {"/v1/traces"}


def test_each_text_of_an_embedding_has_a_span(live: LiveServer, collector: Collector) -> None:
    body = {"model": "m", "input": ["whisper", "secretly", "whispered"]}
    usage = live.post("/v1/embeddings", json=body).json()["usage"]
    (request,) = collector.wait_for("POST /v1/embeddings")
    for _ in wait_until(60):
        texts = [span for span in collector.spans if span.name == "embeddings m"]
        if len(texts) == 3:
            break
    assert {span.parent_span_id for span in texts} == {request.span_id}
    said = [attributes_of(span) for span in texts]
    assert sum(one["gen_ai.usage.input_tokens"] for one in said) == usage["prompt_tokens"]
    assert {one["gen_ai.operation.name"] for one in said} == {"embeddings"}
    assert not any("gen_ai.request.temperature" in one for one in said)


def test_no_span_holds_text(live: LiveServer, collector: Collector) -> None:
    messages = [{"role": "user", "content": "whisper something"}]
    body = {"model": "m", "messages": messages, "max_tokens": 3, "stop": ["whispered"]}
    answer = live.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    collector.wait_for("chat m")
    text = " ".join(map(str, collector.spans))
    assert "whisper" not in text
    assert "secret" not in text


def test_a_response_is_a_chat_under_its_own_name(live: LiveServer, collector: Collector) -> None:
    answer = live.post("/v1/responses", json={"model": "m", "input": "Hello", "max_output_tokens": 3}).json()
    for _ in wait_until(60):
        found = [attributes_of(span) for span in collector.spans if span.name == "chat m"]
        if said := [one for one in found if one["gen_ai.response.id"] == answer["id"]]:
            break
    assert said[0]["gen_ai.usage.output_tokens"] == answer["usage"]["output_tokens"]
    assert said[0]["gen_ai.operation.name"] == "chat"


def test_an_aborted_generation_has_a_span_of_its_own_end(live: LiveServer, collector: Collector) -> None:
    with live.stream("/generate", json={**ENDLESS, "job_id": "leaves"}) as answer:
        stream = events(answer.iter_lines())
        assert [next(stream)[0] for _ in range(3)] == ["started", "token", "token"]
    for _ in wait_until(60):
        found = [attributes_of(span) for span in collector.spans if span.name == "text_completion m"]
        if said := [one for one in found if one["gen_ai.response.id"] == "leaves"]:
            break
    assert said[0]["gen_ai.response.finish_reasons"] == ["abort"]


def test_refusals_have_a_span_and_probes_have_none(live: LiveServer, collector: Collector) -> None:
    live.get("/health")
    live.get("/metrics")
    assert live.post("/tokenize", json={"content": 1}).status_code == 400
    (span,) = collector.wait_for("POST /tokenize")
    assert attributes_of(span)["http.response.status_code"] == 400
    assert not {"GET /health", "GET /metrics", "GET /ready"} & {span.name for span in collector.spans}


def test_a_collector_that_fails_is_two_lines_of_the_log_and_no_request_fails(
    live: LiveServer, collector: Collector
) -> None:
    body = {"prompt": "a", "max_tokens": 2, "stream": False}
    collector.status = 400
    for _ in range(3):
        n_posts = collector.n_posts
        assert live.post("/generate", json=body).status_code == 200
        assert any(collector.n_posts > n_posts for _ in wait_until(60))
    live.wait_for_log("WARNING the collector of spans does not take them")
    collector.status = 200
    assert live.post("/generate", json=body).status_code == 200
    live.wait_for_log("INFO the collector of spans takes them again")
    assert live.log.count("collector of spans") == 2
    assert "Traceback" not in live.log


def test_without_a_collector_the_server_answers_and_ends_as_ever(long_model: Path, tmp_path: Path) -> None:
    variables = {**QUICK, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    variables["OTEL_EXPORTER_OTLP_TIMEOUT"] = "1"
    server = LiveServer(long_model, tmp_path / "log", "--log-format", "json", **variables)
    try:
        server.wait_until_ready()
        body = {"prompt": "a", "max_tokens": 2, "stream": False}
        assert server.post("/generate", json=body).status_code == 200
        server.wait_for_log("the collector of spans does not take them")
    finally:
        assert server.stop() == 0
    assert {json.loads(line)["level"] for line in server.log.splitlines()} == {"info", "warning"}
