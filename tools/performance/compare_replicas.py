"""One replica of one thread against two, on Ray Serve: tokens per second under load, in alternating rounds.

    $(python -m tools.ray_cluster.environment) -m tools.performance.compare_replicas -m MODEL [--rounds 5]

Each replica is pinned to a core of its own. Two figures are printed: the ratio of the rates by the clock, which needs
two idle cores, and by the CPU time of the replicas, which other programs disturb less: tokens per CPU second with
both at work against one alone, times two. `--prompt-tokens N` gives each stream N tokens of its own to read, which no
cache holds; tokens are then those that were read and those that were generated.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Round:
    """What one round gave: tokens, seconds by the clock, CPU seconds of the replicas, streams of each replica."""

    tokens: int
    wall_s: float
    cpu_s: float
    streams: Sequence[int]

    @property
    def per_s(self) -> float:
        """Tokens per second."""
        return self.tokens / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        """Tokens per second of the replicas' CPU time."""
        return self.tokens / self.cpu_s


def replica_pids(app: str) -> list[int]:
    """Processes of the replicas of an application on this machine."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"ServeReplica:{app}:Replica".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return sorted(found)


def pin(pid: int, core: int) -> None:
    """Bind every thread of a process to a core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def cpu_s(pids: list[int]) -> float:
    """CPU time that processes have used, in user and system mode."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICKS_PER_S


def vocabulary(url: str) -> int:
    """How many tokens the model has."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=600) as response:
        return int(json.load(response)["data"][0]["meta"]["n_vocab"])


def generate(url: str, n_tokens: int, prompt: Sequence[int]) -> tuple[int, str]:
    """Stream one generation; its number of tokens, with those of `prompt` that were read, and the replica."""
    body: dict[str, Any] = {"max_tokens": n_tokens, "ignore_eos": True, "seed": 1}
    body |= {"token_ids": prompt} if prompt else {"prompt": "Once upon a time"}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/generate", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=600) as response:
        last = [line for line in response if line.startswith(b"data: ")][-1]
        replica = response.headers["X-Llorch-Replica"]
    usage = json.loads(last.removeprefix(b"data: "))["usage"]
    n_read = usage["prompt_tokens"] - usage["cached_tokens"] if prompt else 0
    return n_read + usage["completion_tokens"], replica


def run_round(url: str, pids: list[int], n_tokens: int, prompts: Sequence[Sequence[int]]) -> Round:
    """A stream for each of `prompts`, all at once, to their ends."""
    cpu_before, started_s = cpu_s(pids), time.monotonic()
    with ThreadPoolExecutor(len(prompts)) as threads:
        answers = list(threads.map(lambda prompt: generate(url, n_tokens, prompt), prompts))
    wall_s, used_s = time.monotonic() - started_s, cpu_s(pids) - cpu_before
    streams = Counter(replica for _, replica in answers)
    return Round(sum(n for n, _ in answers), wall_s, used_s, sorted(streams.values()))


def deploy(args: argparse.Namespace) -> str:
    """Both applications on a Ray of their own; the URL of Serve's proxy."""
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    from llorch.ray_serve import build_app

    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    serve.start(http_options=HTTPOptions(host=LOOPBACK, port=args.port))
    for n, app in ((1, "one"), (2, "two")):
        options = {"model": args.model, "num_cpus": 1, "min_replicas": n, "parallel": args.parallel}
        serve.run(build_app({**options, "max_waiting": 64}), name=app, route_prefix=f"/{app}")
    return f"http://{LOOPBACK}:{args.port}"


def report(rounds: list[tuple[Round, Round]]) -> dict[str, Any]:
    """Medians over the rounds."""
    return {
        "one_tokens_per_s": round(statistics.median(one.per_s for one, _ in rounds), 2),
        "two_tokens_per_s": round(statistics.median(two.per_s for _, two in rounds), 2),
        "ratio_by_clock": round(statistics.median(two.per_s / one.per_s for one, two in rounds), 3),
        "ratio_by_cpu_time": round(
            statistics.median(2 * two.per_cpu_s / one.per_cpu_s for one, two in rounds), 3
        ),
    }


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--model", default="demo")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=2, help="sequences of a replica")
    parser.add_argument("--tokens", type=int, default=128, help="of each stream")
    parser.add_argument("--prompt-tokens", type=int, default=0, help="of a prompt of its own for each stream")
    parser.add_argument("--port", type=int, default=18200)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("compare_replicas: two cores are needed", file=sys.stderr)
        return 2
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "PYTHONPATH": str(ROOT)}
    url = deploy(args)
    pids = {app: replica_pids(app) for app in ("one", "two")}
    chance, n_vocab = random.Random(1), vocabulary(f"{url}/one")

    def run(n: int, n_tokens: int, n_streams: int) -> Round:
        app = ("one", "two")[n - 1]
        prompts = [chance.choices(range(n_vocab), k=args.prompt_tokens) for _ in range(n * n_streams)]
        return run_round(f"{url}/{app}", pids[app], n_tokens, prompts)

    for n, app in enumerate(pids, 1):
        for pid, core in zip(pids[app], cores, strict=False):
            pin(pid, core)
        run(n, 8, 1)
    rounds = []
    for _ in range(args.rounds):
        one, two = run(1, args.tokens, args.parallel), run(2, args.tokens, args.parallel)
        rounds.append((one, two))
        print(
            f"one {one.per_s:.2f} tokens/s, two {two.per_s:.2f} tokens/s, streams {two.streams}",
            file=sys.stderr,
        )
    print(json.dumps(report(rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
