"""Metrics made of what an engine and a server have counted; `docs/serving.md` has their meanings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from llorch.engine.ledger import Stage
from llorch.engine.service import EngineService
from llorch.kernels import paths
from llorch.observe.distribution import Distribution
from llorch.open_model import OpenModel
from llorch.server.metrics.http_counts import HTTPCounts
from llorch.version import __version__

MAX_LABEL_CHARS = 200
"""A file may call itself anything."""


def families(service: EngineService, counts: HTTPCounts) -> Iterator[Metric]:
    """Every metric, with its value now. Any thread may ask; nothing waits for the engine."""
    yield from _load(service)
    yield from _memory(service)
    yield from _times(service)
    yield from _tokens(service)
    yield from _ends(service)
    labels = ("method", "route", "status")
    http = CounterMetricFamily("llorch_http_requests", "Finished HTTP requests", labels=labels)
    for (method, route, status), n in list(counts.by_label.items()):
        http.add_metric((method, route, str(status)), n)
    yield http


def model_label(service: EngineService) -> str:
    """The model's name for clients; empty until it is known."""
    loaded = service.loaded
    return (service.settings.alias or (loaded.name if loaded else ""))[:MAX_LABEL_CHARS]


def _load(service: EngineService) -> Iterator[Metric]:
    """How busy it is, and whether it takes requests."""
    snapshot = service.snapshot()
    n_running = snapshot.n_running if snapshot else 0
    n_waiting = max(service.n_open - n_running, 0)
    n_preempted = snapshot.n_preempted if snapshot else 0
    yield _gauge("llorch_requests_running", "Generations that have a slot", n_running)
    yield _gauge("llorch_requests_waiting", "Accepted generations that wait for a slot", n_waiting)
    yield _gauge("llorch_slots", "Generations that can run side by side", service.settings.parallel)
    yield _counter("llorch_preemptions", "Generations that gave way to an older one", n_preempted)
    stage = service.stage
    stages = {name: float(name == stage) for name in get_args(Stage)}
    yield _labelled(
        GaugeMetricFamily("llorch_stage", "1 for the stage of the server", labels=["stage"]), stages
    )


def _memory(service: EngineService) -> Iterator[Metric]:
    """The KV cache, the weights, and what computes with them."""
    snapshot, loaded = service.snapshot(), service.loaded
    used, kept, free, kv_bytes = (
        (snapshot.n_used_blocks, snapshot.n_kept_blocks, snapshot.n_free_blocks, snapshot.kv_bytes)
        if snapshot
        else (0, 0, 0, 0)
    )
    ratio = used / max(used + kept + free, 1)
    yield _gauge("llorch_kv_cache_usage_ratio", "KV blocks of running generations, over all", ratio)
    blocks = GaugeMetricFamily("llorch_kv_blocks", "Blocks of the KV cache by state", labels=["state"])
    yield _labelled(blocks, {"used": used, "kept": kept, "free": free})
    yield _gauge("llorch_kv_cache_bytes", "Memory of the KV cache", kv_bytes)
    n_bytes = sum(tensor.n_bytes for tensor in loaded.source.tensors.values()) if loaded else 0
    yield _gauge("llorch_weights_bytes", "Memory of the weights", n_bytes)
    if loaded is not None:
        info = {
            "version": __version__,
            "model": model_label(service),
            "type": _main_type(loaded),
            "kernels": str(paths.path()),
            "threads": str(loaded.llama.n_threads),
        }
        yield InfoMetricFamily("llorch_build", "What is served, and how it is computed", value=info)


def _times(service: EngineService) -> Iterator[Metric]:
    """How long things take."""
    ends, steps = service.ledger.tally, service.steps
    yield histogram("llorch_time_to_first_token_seconds", "Acceptance to first token", ends.first_token_s)
    yield histogram("llorch_time_per_output_token_seconds", "Token to token of an answer", ends.token_s)
    yield histogram("llorch_queue_seconds", "Acceptance to a slot", ends.queue_s)
    yield histogram("llorch_prefill_seconds", "Slot to first token", ends.prefill_s)
    yield histogram("llorch_decode_seconds", "First token to last", ends.decode_s)
    yield histogram("llorch_generation_seconds", "Acceptance to end", ends.whole_s)
    yield histogram("llorch_step_seconds", "One step of the engine", steps.step_s)
    yield histogram("llorch_step_rows", "Tokens computed in a step", steps.step_rows)


def _tokens(service: EngineService) -> Iterator[Metric]:
    """How many tokens went in and out."""
    ends, steps = service.ledger.tally, service.steps
    yield histogram("llorch_request_prompt_tokens", "Tokens of a prompt", ends.prompt_lengths)
    yield histogram("llorch_request_generated_tokens", "Tokens of an answer", ends.answer_lengths)
    yield _counter("llorch_prompt_tokens", "Tokens of prompts that were read", steps.n_prompt_tokens)
    yield _counter("llorch_prompt_tokens_cached", "Those from the prefix cache", steps.n_cached_tokens)
    yield _counter("llorch_generated_tokens", "Tokens of answers", ends.n_tokens)
    yield _counter("llorch_draft_tokens", "Tokens computed ahead", ends.n_drafted)
    yield _counter("llorch_draft_tokens_accepted", "Those that were kept", ends.n_accepted)


def _ends(service: EngineService) -> Iterator[Metric]:
    """How generations ended, and which never began."""
    ends = service.ledger.tally
    reasons = CounterMetricFamily("llorch_generations", "Ended generations", labels=["finish_reason"])
    yield _labelled(reasons, ends.ends)
    codes = CounterMetricFamily("llorch_generation_errors", "Failed generations", labels=["code"])
    yield _labelled(codes, ends.errors)
    yield _counter("llorch_queue_full", "Generations refused because too many wait", ends.n_queue_full)


def _main_type(loaded: OpenModel) -> str:
    """The type of most of the weights, by bytes."""
    n_bytes: dict[str, int] = {}
    for info in loaded.source.tensor_infos.values():
        n_bytes[info.type_name] = n_bytes.get(info.type_name, 0) + info.n_bytes
    return max(n_bytes, key=n_bytes.__getitem__)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _counter(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(name, words, value=value)


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]) -> Metric:
    for label, value in list(values.items()):
        family.add_metric([label], value)
    return family


def histogram(name: str, words: str, distribution: Distribution) -> Metric:
    """A histogram of `distribution`."""
    total, counts = distribution.total, list(distribution.counts)
    bounds = [*map(floatToGoString, distribution.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(counts), strict=True))
    return HistogramMetricFamily(name, words, buckets=buckets, sum_value=total)
