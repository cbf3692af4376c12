"""Figures of servers under load: percentiles, times between events, medians and ratios."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.performance import compare_http
from tools.performance.compare_http import Pair, summary, thread_cpu_s
from tools.performance.load_client import LoadError, Stream, streams
from tools.performance.server_loads import LOADS, Load, context_for, percentile
from tools.performance.server_report import medians, table


def test_percentiles_are_values_that_were_measured() -> None:
    values = list(range(1, 101))
    assert [percentile(values, p) for p in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert percentile([3.0], 0.5) == percentile([3.0], 0.99) == 3


def test_gaps_are_counted_inside_a_window() -> None:
    stream = Stream(1.0, (2.0, 3.0, 5.0, 9.0), 10.0, 4, 0)
    assert stream.first_s == 1
    assert stream.gaps_s() == [1, 2, 4]
    assert stream.gaps_s(2.5, 6) == [2]


def test_contexts_hold_what_each_load_needs() -> None:
    load = Load(8, 128, 128)
    assert context_for(["streams"], load) == 512
    assert context_for(["streams", "health"], load) > 4000
    assert set(LOADS) == {"streams", "decode", "prefix", "stalls", "health"}


def run_of(number: int, server: str, load: str, **figures: float) -> dict[str, Any]:
    return {"round": number, "model": "m.gguf", "server": server, "load": load, "figures": figures}


def test_tables_have_medians_and_ratios() -> None:
    runs = [run_of(k, "llorch", "decode", tokens_per_s=v) for k, v in enumerate((100.0, 300.0, 190.0))]
    runs += [run_of(0, "llama-server", "decode", tokens_per_s=95.0)]
    runs += [run_of(0, "llorch bench", "decode", tokens_per_s=200.0)]
    assert medians(runs)["m.gguf", "decode"]["llorch"] == {"tokens_per_s": 190}
    assert "**2.00×**, HTTP costs 5.0 %" in table(runs)


def test_the_cost_of_http_is_the_median_of_pairs() -> None:
    found = [
        Pair(server, bench, loop_us)
        for server, bench, loop_us in ((90, 100, 50.0), (60, 50, 70.0), (16, 20, 60.0))
    ]
    words = summary(found)
    assert words.startswith("3 pairs: HTTP costs 10.0 % (quartiles -5.0 to 15.0)")
    assert "server 60, bench 50 tokens/s; event loop 60.0 us" in words
    assert summary(found[:1]).startswith("1 pairs: HTTP costs 10.0 %")


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no CPU times of threads")
def test_cpu_time_of_a_thread_is_what_it_has_computed() -> None:
    thread_id = threading.get_native_id()
    begun_s, own_s = thread_cpu_s(thread_id), time.thread_time()
    while time.thread_time() < own_s + 0.05:
        pass
    assert 0.02 < thread_cpu_s(thread_id) - begun_s < 1  # the scheduler adds to it once a tick


def test_what_does_not_run_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_http.main(["/no/such/model.gguf", "-t", "1"]) == 1
    assert capsys.readouterr().err.startswith("compare_http: ")


EVENTS = [
    {"choices": [{"text": "a", "finish_reason": None}]},
    {"choices": [{"text": "b", "finish_reason": None}]},
    {"choices": [{"text": "", "finish_reason": "length"}]},
    {"choices": [], "usage": {"completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}},
]


class _Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["prompt"] == [0]:
            self.send_error(400)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        whole = "".join(f"data: {json.dumps(event)}\n\n" for event in EVENTS) + "data: [DONE]\n\n"
        for i in range(0, len(whole), 37):  # events are cut anywhere
            piece = whole[i : i + 37].encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_client_counts_events_and_tokens(port: int) -> None:
    for stream in streams(port, [[1, 2], [3]], 2):
        assert (len(stream.event_s), stream.n_tokens, stream.n_cached) == (2, 2, 1)
        assert stream.sent_s <= stream.event_s[0] <= stream.event_s[1] <= stream.end_s


def test_too_few_tokens_and_refusals_are_faults(port: int) -> None:
    with pytest.raises(LoadError, match="expected 3 tokens, got 2 in 2 events"):
        streams(port, [[1]], 3)
    with pytest.raises(LoadError, match="400"):
        streams(port, [[0]], 2)
