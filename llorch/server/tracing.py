"""Spans of requests, sent to a collector by OTLP over HTTP: the one module that knows OpenTelemetry.

A request has a span, below it one for each of its generations, and below that the waiting, the reading of the prompt
and the writing of the answer. They hold counts, times and parameters, never text. Nothing here is waited for: what a
collector does not take in time is dropped.

Source: OpenTelemetry's semantic conventions for HTTP and for generative AI.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from llorch.engine.events import EndEvent, ErrorEvent, LastEvent
from llorch.engine.ledger import Submission
from llorch.engine.service import EngineService
from llorch.engine.tally import Timeline, queue_and_prefill_s
from llorch.errors import SettingsError
from llorch.observe.request_scope import RequestScope
from llorch.settings import Settings
from llorch.version import __version__

logger = logging.getLogger(__name__)

FLUSH_S = 2.0
"""How long the end of the server waits for a collector."""

_SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Either makes traces without a setting of ours; then all is as OpenTelemetry's environment says."""
_MISSING = "spans need OpenTelemetry: pip install 'llorch[otel]'"
_NOISY = ("opentelemetry.exporter.otlp.proto.http", "opentelemetry.sdk._shared_internal")
_CHATS = ("/chat/completions", "/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat")
_VECTORS = ("/embedding", "/embeddings", "/v1/embeddings", "/api/embed", "/api/embeddings")
_OPERATIONS = {**dict.fromkeys(_CHATS, "chat"), **dict.fromkeys(_VECTORS, "embeddings")}
"""Names that the conventions have for what a path does."""


def tracing_of(service: EngineService) -> Tracing | None:
    """What makes the spans of `service`; None if nobody has asked for them.

    Raises:
        SettingsError: a setting asks for them, and OpenTelemetry is not installed.
    """
    settings = service.settings
    variable = next((name for name in _SWITCHES if os.environ.get(name)), None)
    if settings.otel_endpoint is None and (variable is None or _is_off()):
        return None
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace.export  # noqa: F401
    except ImportError:
        if settings.otel_endpoint is not None:
            raise SettingsError(f"otel_endpoint: {_MISSING}") from None
        logger.warning("%s is set, but %s", variable, _MISSING)
        return None
    return Tracing(service)


def _is_off() -> bool:
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return is_disabled or os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"


@dataclass(frozen=True, slots=True)
class _RequestSpan:
    """The span of a request, and what its generations are called."""

    span: Any
    operation: str


class _WallClock:
    """Makes nanoseconds since 1970 of times of `time.monotonic`; in one order for all that use the same one."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def ns(self, monotonic_s: float) -> int:
        """The wall clock's time of `monotonic_s`."""
        return self._offset_ns + int(monotonic_s * 1e9)


class Tracing:
    """Makes spans: of requests on the event loop, of generations on a thread of its own."""

    def __init__(self, service: EngineService) -> None:
        """No thread runs before `start`."""
        self._service = service
        self._ended: queue.SimpleQueue[tuple[Submission, LastEvent] | None] = queue.SimpleQueue()
        self._tracer: Any = None
        self._provider: Any = None
        self._exporter: _QuietExporter | None = None
        self._thread = threading.Thread(target=self._run, name="llorch-spans", daemon=True)

    def start(self) -> None:
        """Begin to send spans."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._exporter = _QuietExporter(self._service.settings)
        resource = Resource.create({"service.version": __version__, **_service_name()})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("llorch", __version__)
        self._service.ledger.on_end.append(lambda submission, last: self._ended.put((submission, last)))
        self._thread.start()

    def stop(self) -> None:
        """Send what there is, for at most `FLUSH_S`."""
        if self._exporter is None:
            return
        self._ended.put(None)
        self._thread.join(FLUSH_S)
        flush = threading.Thread(target=self._provider.shutdown, daemon=True)
        flush.start()
        flush.join(FLUSH_S if self._exporter.works else 0)

    def begin(self, scope: Scope, request: RequestScope) -> None:
        """Begin the span of a request, below the one that its `traceparent` names; its faults stay here."""
        try:
            self._begin(scope, request)
        except Exception as error:
            _note_loss(error)

    def _begin(self, scope: Scope, request: RequestScope) -> None:
        from opentelemetry import propagate, trace

        if self._tracer is None:
            return
        headers = Headers(scope=scope)
        parent = propagate.extract({name: headers[name] for name in headers.keys()})  # noqa: SIM118
        span = self._tracer.start_span(scope["method"], context=parent, kind=trace.SpanKind.SERVER)
        operation = _OPERATIONS.get(scope["path"], "text_completion")
        request.span = _RequestSpan(span, operation)

    def end(self, request: RequestScope, method: str, route: str, status: int) -> None:
        """End the span of a request that has been answered; no fault of it reaches the request."""
        try:
            if isinstance(request.span, _RequestSpan):
                self._end(request.span.span, request, method, route, status)
        except Exception as error:
            _note_loss(error)

    def _end(self, span: Any, request: RequestScope, method: str, route: str, status: int) -> None:
        from opentelemetry import trace

        span.update_name(f"{method} {route}")
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "llorch.request_id": request.id,
        }
        span.set_attributes(attributes)
        if status >= 500:
            span.set_attribute("error.type", str(status))
            span.set_status(trace.StatusCode.ERROR)
        span.end()

    def _run(self) -> None:
        while (ended := self._ended.get()) is not None:
            try:
                self._add_generation(*ended)
            except Exception as error:
                _note_loss(error)

    def _add_generation(self, submission: Submission, last: LastEvent) -> None:
        from opentelemetry import trace

        request = None if submission.scope is None else submission.scope.span
        if not isinstance(request, _RequestSpan):
            return
        timeline = submission.timeline
        model = self._service.settings.alias or (self._service.loaded.name if self._service.loaded else "")
        clock = _WallClock()
        span = self._tracer.start_span(
            f"{request.operation} {model}",
            context=trace.set_span_in_context(request.span),
            start_time=clock.ns(timeline.accepted_s),
            attributes=_attributes(submission, last, request.operation, model),
        )
        if isinstance(last, ErrorEvent):
            span.set_status(trace.StatusCode.ERROR, last.code)
        else:
            self._add_parts(timeline, last, trace.set_span_in_context(span), clock)
        span.end(clock.ns(timeline.ended_s))

    def _add_parts(self, timeline: Timeline, end: EndEvent, context: Any, clock: _WallClock) -> None:
        queue_s, prefill_s = queue_and_prefill_s(timeline, end)
        admitted_s = timeline.accepted_s + queue_s
        parts = [("queue", timeline.accepted_s, admitted_s)]
        if prefill_s > 0:
            parts.append(("prefill", admitted_s, admitted_s + prefill_s))
        if timeline.n_tokens:
            parts.append(("decode", timeline.first_token_s, timeline.last_token_s))
        for name, begin_s, end_s in parts:
            span = self._tracer.start_span(name, context=context, start_time=clock.ns(begin_s))
            span.end(clock.ns(end_s))


def _note_loss(error: Exception) -> None:
    logger.warning("a span is lost: %s", type(error).__name__, exc_info=error)


def _service_name() -> dict[str, str]:
    """Our name, unless the environment says another."""
    given = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return {} if given else {"service.name": "llorch"}


def _attributes(submission: Submission, last: LastEvent, operation: str, model: str) -> dict[str, Any]:
    """What a generation's span says, in the words of the semantic conventions where they have some."""
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "llorch",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.response.id": submission.job_id,
    }
    if submission.owner:
        attributes["llorch.owner"] = submission.owner
    if (request := submission.request) is not None:
        if request.states_to is None:  # else nothing is chosen
            for name in ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"):
                attributes[f"gen_ai.request.{name}"] = getattr(request.params, name)
            attributes["gen_ai.request.max_tokens"] = request.max_tokens
        attributes["gen_ai.usage.input_tokens"] = submission.n_prompt
    if isinstance(last, ErrorEvent):
        attributes["error.type"] = last.code
        return attributes
    attributes["gen_ai.request.seed"] = str(last.seed)  # may exceed the int64 of OTLP
    attributes["gen_ai.response.finish_reasons"] = [last.finish_reason]
    attributes["gen_ai.usage.output_tokens"] = last.usage.completion_tokens
    attributes["gen_ai.usage.cache_read.input_tokens"] = last.usage.cached_tokens
    return attributes


class _QuietExporter:
    """Sends spans by OTLP; a collector that cannot be reached is a line of the log, and another when it is back.

    Attributes:
        works: whether the latest batch was taken.
    """

    def __init__(self, settings: Settings) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self.works = True
        self._inner = OTLPSpanExporter(endpoint=_traces_url(settings.otel_endpoint))
        for name in _NOISY:  # they would log each try
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def export(self, spans: Any) -> Any:
        """Send a batch; called on the thread of the batch processor."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            result = self._inner.export(spans)
        except Exception:
            result = SpanExportResult.FAILURE
        works = result is SpanExportResult.SUCCESS
        if works != self.works:
            self.works = works
            if works:
                logger.info("the collector of spans takes them again")
            else:
                logger.warning("the collector of spans does not take them; they are dropped until it does")
        return result

    def shutdown(self) -> None:
        """Give up what is under way."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is kept here."""
        return True


def _traces_url(endpoint: str | None) -> str | None:
    """The full address for spans; None leaves it to OpenTelemetry's environment."""
    if endpoint is None:
        return None
    base = endpoint.rstrip("/")
    return base if base.endswith("/v1/traces") else f"{base}/v1/traces"
