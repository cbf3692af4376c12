"""A page of metrics: all of a service, in the format that the client reads."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

from llorch.engine.service import EngineService
from llorch.server.metrics.families import families, model_label
from llorch.server.metrics.http_counts import HTTPCounts
from llorch.server.metrics.vllm_names import in_vllm_words

TEXT = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS = "application/openmetrics-text"


class Exposition:
    """The metrics of one application; another one in the process has its own.

    Attributes:
        http: counts of requests, for whoever answers them.
    """

    def __init__(self, service: EngineService) -> None:
        self.http = HTTPCounts()
        self._registry = CollectorRegistry()
        self._registry.register(_ServiceCollector(service, self.http))
        ProcessCollector(registry=self._registry)

    def page(self, accept: str) -> tuple[bytes, str]:
        """The metrics now, and their content type; takes milliseconds.

        Args:
            accept: the client's `Accept` header.
        """
        if _takes_openmetrics(accept):
            # The default escaping would make underscores of vLLM's colons, which every Prometheus takes.
            page = openmetrics.generate_latest(self._registry, escaping=openmetrics.ALLOWUTF8)
            return page, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), TEXT


class _ServiceCollector:
    """Makes metrics when they are asked for: nothing is kept twice."""

    def __init__(self, service: EngineService, counts: HTTPCounts) -> None:
        self._service = service
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """All metrics of the service."""
        metrics = list(families(self._service, self._counts))
        yield from metrics
        if self._service.settings.metrics_names == "vllm":
            yield from in_vllm_words(metrics, model_label(self._service), self._service.snapshot())


def _takes_openmetrics(accept: str) -> bool:
    """Whether a client reads OpenMetrics. Prometheus names it first; nobody names it who prefers the other."""
    for media_range in accept.split(","):
        kind, *parameters = (part.strip() for part in media_range.lower().split(";"))
        if kind == _OPENMETRICS and "q=0" not in parameters:
            return True
    return False
