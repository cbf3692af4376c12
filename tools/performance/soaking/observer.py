"""What is watched while the load runs: memory, descriptors, threads, KV blocks, how long probes take."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tools.performance.soaking.wire import request

PROBE_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of the server at a time.

    Attributes:
        at_s: since the begin.
        rss_anon_mib: anonymous memory.
        n_files: open descriptors.
        n_threads: threads.
        kv_positions: of the KV cache, all.
        kv_used: those of running generations.
        n_busy_slots: places with a generation.
        health_s: the slowest probe since the last sample.
    """

    at_s: float
    rss_anon_mib: float
    n_files: int
    n_threads: int
    kv_positions: int
    kv_used: int
    n_busy_slots: int
    health_s: float


class Observer:
    """Probes and samples in a thread of its own, as a line of JSON each.

    Attributes:
        samples: what was seen.
        probes_s: duration of every probe of `/health`.
        faults: probes that were not answered with 200.
        port: where the server listens.
    """

    def __init__(self, port: int, pid: int, out: IO[str], every_s: float) -> None:
        """Nothing is done before `start`."""
        self.samples: list[Sample] = []
        self.probes_s: list[float] = []
        self.faults: list[str] = []
        self.port = port
        self._process = Path(f"/proc/{pid}")
        self._out = out
        self._every_s = every_s
        self._is_over = threading.Event()
        self._begin_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Take the last sample."""
        self._is_over.set()
        self._thread.join()

    def sample(self, slowest_s: float = 0.0) -> Sample:
        """The state now."""
        status = dict(
            line.split(":", 1) for line in (self._process / "status").read_text().splitlines() if ":" in line
        )
        memory = self._get("/props").get("memory", {})
        slots = self._get("/slots")
        return Sample(
            at_s=round(time.monotonic() - self._begin_s, 2),
            rss_anon_mib=round(int(status["RssAnon"].split()[0]) / 1024, 2),
            n_files=len(list((self._process / "fd").iterdir())),
            n_threads=int(status["Threads"]),
            kv_positions=memory.get("kv_positions", 0),
            kv_used=memory.get("kv_positions_used", 0),
            n_busy_slots=sum(slot["is_processing"] for slot in slots),
            health_s=round(slowest_s, 4),
        )

    def _run(self) -> None:
        next_s, slowest_s = self._begin_s + self._every_s, 0.0
        while not self._is_over.wait(PROBE_EVERY_S):
            try:
                slowest_s = max(slowest_s, self._probe())
                if time.monotonic() >= next_s:
                    sample = self.sample(slowest_s)
                    self.samples.append(sample)
                    self._out.write(json.dumps(asdict(sample)) + "\n")
                    self._out.flush()
                    next_s, slowest_s = time.monotonic() + self._every_s, 0.0
            except (OSError, KeyError, TypeError, ValueError) as error:
                self.faults.append(
                    f"a probe failed after {time.monotonic() - self._begin_s:.0f} s: {error!r}"
                )
                if not self._process.exists():
                    return

    def _probe(self) -> float:
        begin_s = time.perf_counter()
        status, _ = self._exchange("/health")
        if status != 200:
            self.faults.append(f"/health: {status}")
        seconds = time.perf_counter() - begin_s
        self.probes_s.append(seconds)
        return seconds

    def _get(self, path: str) -> Any:
        _, body = self._exchange(path)
        return json.loads(body)

    def _exchange(self, path: str) -> tuple[int, bytes]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as client:
            client.sendall(request("GET", path))
            data = b"".join(iter(lambda: client.recv(1 << 16), b""))
        return int(data.split(maxsplit=2)[1]), data.partition(b"\r\n\r\n")[2]
