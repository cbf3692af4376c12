"""A collector of spans: OTLP over HTTP, read with the protocol's own definitions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.live_server import WAIT_S, wait_until


class Collector:
    """Keeps the spans that were sent to it.

    Attributes:
        url: what a sender is given.
        status: how it answers.
        paths: that were asked for.
        n_posts: how often it was asked.
        resources: attributes of what the spans are of.
        spans: all that were taken, as messages of the protocol.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.status = 200
        self.n_posts = 0
        self.paths: set[str] = set()
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Any] = []

    def take(self, path: str, body: bytes) -> None:
        self.n_posts += 1
        self.paths.add(path)
        if self.status != 200:
            return
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes_of(of_resource.resource))
            for of_scope in of_resource.scope_spans:
                self.spans += of_scope.spans

    def wait_for(self, name: str, n: int = 1) -> list[Any]:
        """The spans of this name, once there are `n`."""
        for _ in wait_until(WAIT_S):
            found = [span for span in self.spans if span.name == name]
            if len(found) >= n:
                return found
        raise TimeoutError(f"no {n} spans {name!r} among {[span.name for span in self.spans]}")

    def below(self, parent: Any) -> dict[str, Any]:
        """The spans whose parent is `parent`, by name."""
        return {span.name: span for span in self.spans if span.parent_span_id == parent.span_id}


def attributes_of(message: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {pair.key: _value_of(pair.value) for pair in message.attributes}


def _value_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    plain = getattr(value, kind)
    return [_value_of(item) for item in plain.values] if kind == "array_value" else plain


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()
