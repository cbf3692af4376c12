"""`llama-benchy` as a load generator: streamed chats, one and eight at once.

It wants a tokenizer file and a book. The tokenizer splits at spaces: it only decides how long the prompts are. The
book is served from this process.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tools.conformance.checks import Check, Target, expect, expect_equal, main

WORDS = [
    "the",
    "a",
    "one",
    "old",
    "new",
    "sea",
    "boat",
    "wind",
    "sails",
    "over",
    "under",
    "to",
    "from",
    "and",
    "then",
    "by",
]
N_PROMPT, N_GENERATED, N_STREAMS = 64, 32, 8
N_TRIES = 5
"""llama-server drops connections that it had promised to keep, now and then; the client gives up then."""


class _Book(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The book."""
        text = " ".join(WORDS[(7 * i + i // 16) % len(WORDS)] for i in range(4000)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


@contextlib.contextmanager
def _book_url() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Book)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/book.txt"
    finally:
        server.shutdown()
        server.server_close()


def _write_tokenizer(path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["?", *WORDS])}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.save(str(path))


def _is_llorch(target: Target) -> bool:
    request = urllib.request.Request(f"{target.v1}/models", headers={"Authorization": f"Bearer {target.key}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bool(json.load(answer)["data"][0]["owned_by"] == "llorch")


def _measured(target: Target, folder: Path, book: str) -> tuple[str, list[dict[str, Any]]]:
    """What the client prints, and what it measured: nothing if it failed."""
    result = folder / "result.json"
    words = ["--base-url", target.v1, "--api-key", target.key, "--model", target.model]
    words += ["--tokenizer", str(folder / "tokenizer.json"), "--book-url", book]
    words += ["--pp", str(N_PROMPT), "--tg", str(N_GENERATED), "--extra-body", "ignore_eos=true"]
    words += ["--no-cache", "--runs", "1"]
    words += ["--concurrency", "1", str(N_STREAMS), "--skip-coherence", "--exit-on-first-fail"]
    words += ["--format", "json", "--save-result", str(result)]
    done = subprocess.run(
        [sys.executable, "-m", "llama_benchy", *words],
        env=os.environ | {"HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    return done.stdout, [] if done.returncode else json.loads(result.read_text("utf-8"))["benchmarks"]


def load(target: Target) -> None:
    """Every stream has all its tokens, and the throughput is reported."""
    is_llorch = _is_llorch(target)
    with tempfile.TemporaryDirectory() as name, _book_url() as book:
        folder = Path(name)
        _write_tokenizer(folder / "tokenizer.json")
        for _ in range(1 if is_llorch else N_TRIES):
            output, runs = _measured(target, folder, book)
            if runs or "Server disconnected" not in output:
                break
    expect(bool(runs), f"llama-benchy failed:\n{output[-1500:]}")
    expect(not is_llorch or "No complete token_ids" not in output, "chunks without token_ids")
    expect_equal("concurrencies", [run["concurrency"] for run in runs], [1, N_STREAMS])
    for run in runs:
        expect_equal("streams", len(run["tg_req_throughput"]["values"]), run["concurrency"])
        first, speed = run["ttfr"]["mean"], run["tg_throughput"]["mean"]
        expect(first > 0 and speed > 0, f"nothing was measured: {run}")
        print(
            f"             {run['concurrency']} at once: {speed:.1f} tokens/s, first after {first:.0f} ms",
            flush=True,
        )


CHECKS: list[Check] = [load]

if __name__ == "__main__":
    main(CHECKS)
