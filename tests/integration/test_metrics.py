"""Metrics of a real server under load: every value against what its clients saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_server import WAIT_S, LiveServer, events, generate_events, wait_until
from tests.support.metrics import OPENMETRICS, Values, families_of, values_of

PROMPT = [5 + i * 7 % 300 for i in range(150)]
ENDLESS: dict[str, Any] = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}


@pytest.fixture(scope="module")
def live(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Two sequences at a time, two may wait, prompts are read 64 tokens at a step."""
    log = tmp_path_factory.mktemp("metrics") / "log"
    flags = ("-np", "2", "-b", "64", "--max-waiting", "2", "--metrics", "--metrics-names", "vllm", "-a", "m")
    server = LiveServer(long_model, log, *flags)
    yield server.wait_until_ready()
    assert server.stop() == 0


def scrape(server: LiveServer, accept: str = OPENMETRICS) -> Values:
    answer = server.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    return values_of(families_of(answer.text, answer.headers["content-type"]))


def growth(server: LiveServer, before: Values, **answered: int) -> Callable[[str], float]:
    """By how much samples have grown since `before`, once so many requests of a route were counted.

    A request is counted behind its last byte, so its client may come back sooner.
    """
    for _ in wait_until(WAIT_S):
        after = scrape(server)
        n_counted = {
            route: sum(
                n - before.get(name, 0)
                for name, n in after.items()
                if name.startswith("llorch_http_requests_total{") and f'route="/{route}"' in name
            )
            for route in answered
        }
        if n_counted == answered:
            return lambda sample: after.get(sample, 0) - before.get(sample, 0)
    raise TimeoutError(f"{n_counted} requests were counted, not {answered}")


def wait_for(server: LiveServer, **wanted: float) -> Values:
    for _ in wait_until(WAIT_S):
        values = scrape(server)
        if all(values[f"llorch_{name}"] == value for name, value in wanted.items()):
            return values
    raise TimeoutError(f"{wanted} did not come")


def http(route: str, status: int, method: str = "POST") -> str:
    return f'llorch_http_requests_total{{method="{method}",route="{route}",status="{status}"}}'


def ended(reason: str) -> str:
    return f'llorch_generations_total{{finish_reason="{reason}"}}'


def test_tokens_ends_and_times_are_those_that_the_clients_saw(live: LiveServer) -> None:
    before = scrape(live)

    def generate(n: int) -> dict[str, Any]:
        body = {"token_ids": PROMPT, "max_tokens": n, "ignore_eos": True, "temperature": 0}
        return generate_events(live.url, **body)[-1][1]

    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(generate, (3, 9, 14, 20)))
    ends.append(live.post("/generate", json={"prompt": "a", "max_tokens": 1, "stream": False}).json())
    grown = growth(live, before, generate=len(ends))
    n_prompt, n_cached, n_tokens = (
        sum(end["usage"][f"{name}_tokens"] for end in ends) for name in ("prompt", "cached", "completion")
    )
    assert n_cached > 0
    assert grown("llorch_prompt_tokens_total") == n_prompt
    assert grown("llorch_prompt_tokens_cached_total") == n_cached
    assert grown("llorch_generated_tokens_total") == n_tokens
    assert grown("llorch_step_rows_sum") == n_prompt - n_cached + n_tokens - len(ends)
    assert grown("llorch_step_rows_count") == grown("llorch_step_seconds_count") >= 20
    assert grown(ended("length")) == sum(end["finish_reason"] == "length" for end in ends)
    for name in ("time_to_first_token", "queue", "prefill", "decode", "generation"):
        assert grown(f"llorch_{name}_seconds_count") == len(ends)
    assert grown("llorch_time_per_output_token_seconds_count") == n_tokens - len(ends)
    assert grown("llorch_request_prompt_tokens_sum") == n_prompt
    assert grown("llorch_request_generated_tokens_sum") == n_tokens
    assert grown(http("/generate", 200)) == len(ends)
    waited, read, written = (grown(f"llorch_{name}_seconds_sum") for name in ("queue", "prefill", "decode"))
    assert grown("llorch_time_to_first_token_seconds_sum") == pytest.approx(waited + read)
    assert grown("llorch_generation_seconds_sum") >= waited + read + written
    assert read == pytest.approx(sum(end["timings"]["prompt_s"] for end in ends))
    assert written == pytest.approx(grown("llorch_time_per_output_token_seconds_sum"))
    assert waited >= sum(end["timings"]["queue_s"] for end in ends)


def test_gauges_of_a_full_server_and_a_refusal(live: LiveServer) -> None:
    before = wait_for(live, requests_running=0, requests_waiting=0)
    with ExitStack() as streams:
        answers = [streams.enter_context(live.stream("/generate", json=ENDLESS)) for _ in range(4)]
        lines = [answer.iter_lines() for answer in answers]  # kept: a stream ends with its reader
        assert [next(some) for some in lines] == ["event: started"] * 4
        values = wait_for(live, requests_running=2, requests_waiting=2)
        assert values["llorch_slots"] == 2
        used, kept, free = (
            values[f'llorch_kv_blocks{{state="{state}"}}'] for state in ("used", "kept", "free")
        )
        assert used >= 2
        assert values["llorch_kv_cache_usage_ratio"] == pytest.approx(used / (used + kept + free))
        assert live.get("/health").status_code == 200
        assert live.post("/generate", json=ENDLESS).status_code == 503
    idle = wait_for(live, requests_running=0, requests_waiting=0)
    assert idle['llorch_kv_blocks{state="used"}'] == 0
    assert used + kept + free == sum(
        idle[f'llorch_kv_blocks{{state="{state}"}}'] for state in ("kept", "free")
    )
    grown = growth(live, before, generate=5)
    assert (grown(ended("abort")), grown("llorch_queue_full_total")) == (4, 1)
    assert (grown(http("/generate", 503)), grown(http("/generate", 200))) == (1, 4)


def test_what_was_cancelled_or_refused_counts_once(live: LiveServer) -> None:
    before = wait_for(live, requests_running=0, requests_waiting=0)
    with live.stream("/generate", json={**ENDLESS, "job_id": "gone"}) as answer:
        stream = events(answer.iter_lines())
        next(stream)
        assert live.post("/cancel", json={"job_id": "gone"}).status_code == 200
        end = list(stream)[-1][1]
    assert end["finish_reason"] == "abort"
    assert live.post("/generate", json={"prompt": "a", "top_k": -1}).status_code == 400
    assert live.post("/generate", json={"token_ids": [10**6]}).status_code == 400
    assert live.get("/nothing/at/all").status_code == 404
    grown = growth(live, before, generate=3, cancel=1)
    assert [grown(ended(reason)) for reason in ("stop", "length", "abort", "error")] == [0, 0, 1, 0]
    assert grown("llorch_generated_tokens_total") == end["usage"]["completion_tokens"]
    assert (grown(http("/generate", 400)), grown(http("/cancel", 200))) == (2, 1)
    assert grown(http("other", 404, "GET")) == 1


def test_several_answers_of_one_request_are_several_generations(live: LiveServer) -> None:
    before = scrape(live)
    body = {"model": "m", "prompt": "a", "n": 3, "max_tokens": 2, "logit_bias": {}}
    usage = live.post("/v1/completions", json=body).json()["usage"]
    grown = growth(live, before, **{"v1/completions": 1})
    assert grown("llorch_generation_seconds_count") == 3
    assert grown("llorch_generated_tokens_total") == usage["completion_tokens"]
    assert grown(http("/v1/completions", 200)) == 1


def test_what_is_served_and_what_it_takes(live: LiveServer) -> None:
    values = scrape(live, accept="text/plain")
    (info,) = (sample for sample in values if sample.startswith("llorch_build_info{"))
    assert 'model="m"' in info
    assert all(f'{label}="' in info for label in ("version", "type", "kernels", "threads"))
    assert values['llorch_stage{stage="ready"}'] == 1
    assert values["llorch_weights_bytes"] == live.get("/props").json()["memory"]["weights_bytes"]
    assert values["llorch_kv_cache_bytes"] > 0
    assert values["process_resident_memory_bytes"] > values["llorch_weights_bytes"]
    assert values["process_open_fds"] > 3
    assert values["process_cpu_seconds_total"] > 0


def test_gateways_find_the_names_of_vllm(live: LiveServer) -> None:
    values = scrape(live)
    model = '{model_name="m"}'
    for ours, theirs in {
        "requests_waiting": "num_requests_waiting",
        "requests_running": "num_requests_running",
        "kv_cache_usage_ratio": "kv_cache_usage_perc",
        "generated_tokens_total": "generation_tokens_total",
        "prompt_tokens_total": "prompt_tokens_total",
        "time_to_first_token_seconds_sum": "time_to_first_token_seconds_sum",
        "time_per_output_token_seconds_count": "inter_token_latency_seconds_count",
        "generation_seconds_count": "e2e_request_latency_seconds_count",
    }.items():
        assert values[f"vllm:{theirs}{model}"] == values[f"llorch_{ours}"]
    lengths = 'vllm:request_success_total{finished_reason="length",model_name="m"}'
    assert values[lengths] == values[ended("length")]
    (config,) = (sample for sample in values if sample.startswith("vllm:cache_config_info{"))
    n_blocks = sum(values[f'llorch_kv_blocks{{state="{state}"}}'] for state in ("used", "kept", "free"))
    assert f'num_gpu_blocks="{n_blocks:.0f}"' in config
    assert 'block_size="32"' in config


def test_the_page_holds_no_text_no_job_and_no_owner(live: LiveServer) -> None:
    body = {"prompt": "my secret world", "max_tokens": 2, "stream": False, "job_id": "odd-job"}
    assert live.post("/generate", json=body).status_code == 200
    page = live.get("/metrics").text
    assert "secret" not in page
    assert "odd-job" not in page
    assert json.dumps(live.get("/openapi.json").json()["paths"]["/metrics"])
