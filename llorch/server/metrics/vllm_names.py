"""The same numbers under vLLM's names, which the Kubernetes inference extension and many dashboards ask for.

Source: vLLM's metrics (`vllm:...`, label `model_name`) and the model server protocol of the inference extension.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from llorch.engine.snapshot import EngineSnapshot

NAMES = {
    "llorch_requests_running": "vllm:num_requests_running",
    "llorch_requests_waiting": "vllm:num_requests_waiting",
    "llorch_kv_cache_usage_ratio": "vllm:kv_cache_usage_perc",
    "llorch_preemptions": "vllm:num_preemptions",
    "llorch_prompt_tokens": "vllm:prompt_tokens",
    "llorch_prompt_tokens_cached": "vllm:prompt_tokens_cached",
    "llorch_generated_tokens": "vllm:generation_tokens",
    "llorch_generations": "vllm:request_success",
    "llorch_time_to_first_token_seconds": "vllm:time_to_first_token_seconds",
    "llorch_queue_seconds": "vllm:request_queue_time_seconds",
    "llorch_prefill_seconds": "vllm:request_prefill_time_seconds",
    "llorch_decode_seconds": "vllm:request_decode_time_seconds",
    "llorch_generation_seconds": "vllm:e2e_request_latency_seconds",
    "llorch_request_prompt_tokens": "vllm:request_prompt_tokens",
    "llorch_request_generated_tokens": "vllm:request_generation_tokens",
}
_TOKEN_TIME = "llorch_time_per_output_token_seconds"
_TOKEN_TIME_NAMES = ("vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds")
"""Older and newer versions of vLLM call it so."""

_LABELS = {"finish_reason": "finished_reason"}


def in_vllm_words(
    metrics: Iterable[Metric], model_name: str, snapshot: EngineSnapshot | None
) -> Iterator[Metric]:
    """Those of `metrics` that vLLM has too, under its names.

    Args:
        metrics: under ours.
        model_name: label of each.
        snapshot: of the engine, once it is ready.
    """
    for metric in metrics:
        names = _TOKEN_TIME_NAMES if metric.name == _TOKEN_TIME else (NAMES.get(metric.name, ""),)
        for name in filter(None, names):
            yield _renamed(metric, name, model_name)
    if snapshot is not None:
        config = GaugeMetricFamily(
            "vllm:cache_config_info",
            "The KV cache",
            labels=["block_size", "num_gpu_blocks", "model_name"],
        )
        config.add_metric([str(snapshot.block_size), str(snapshot.n_blocks), model_name], 1)
        yield config


def _renamed(metric: Metric, name: str, model_name: str) -> Metric:
    renamed = Metric(name, metric.documentation, metric.type)
    for sample in metric.samples:
        labels = {_LABELS.get(label, label): value for label, value in sample.labels.items()}
        renamed.add_sample(
            name + sample.name.removeprefix(metric.name), {**labels, "model_name": model_name}, sample.value
        )
    return renamed
