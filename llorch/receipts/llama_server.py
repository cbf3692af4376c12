"""A llama-server process on a free port of this machine, and the one question it is asked."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from llorch.errors import InputError, LlorchError

READY_S = 600.0
ANSWER_S = 600.0
_LEAVE_S = 10.0
_LOG_CHARS = 300
_FORCE = 1e6
"""Added to a token's logit, so that it is chosen; the probabilities that are reported are those before that."""


class LlamaServer:
    """Runs while it is entered as a context."""

    def __init__(self, binary: Path, model: Path, *, n_ctx: int, kv_type: str, n_threads: int = 0) -> None:
        """Nothing is started yet.

        Args:
            binary: llama-server; its shared libraries may lie beside it.
            model: the file that it loads.
            n_ctx: tokens that the sequence holds.
            kv_type: number type of the KV cache.
            n_threads: threads that compute; 0: as many as it likes.
        """
        self._binary = binary
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._command = [
            str(binary), "-m", str(model), "--host", "127.0.0.1", "--port", str(self._port), "-np", "1",
            "-c", str(n_ctx), "--cache-type-k", kv_type, "--cache-type-v", kv_type,
            *(("-t", str(n_threads)) if n_threads else ()),
        ]  # fmt: skip

    def __enter__(self) -> Self:
        folder = str(self._binary.resolve().parent)
        libraries = os.pathsep.join(filter(None, (folder, os.environ.get("LD_LIBRARY_PATH"))))
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LD_LIBRARY_PATH": libraries},
            )
        except (OSError, ValueError) as error:
            self._log.close()
            raise InputError(f"{self._binary}: cannot be run: {error}") from None
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def build(self) -> str:
        """What it says it was built from."""
        status, answer = self._ask("GET", "/props", None, ANSWER_S)
        return str(answer.get("build_info", "unknown"))[:100] if status == http.client.OK else "unknown"

    def judge(self, token_ids: list[int], next_id: int, n_top: int) -> tuple[float, list[tuple[int, float]]]:
        """How probable it holds a token after others.

        Args:
            token_ids: those before it.
            next_id: the token.
            n_top: how many of the most probable ones to report.

        Returns:
            The logarithm of its probability, and ids and logarithms of the most probable ones, before any sampling.

        Raises:
            LlorchError: it does not answer as it should.
        """
        body = {
            "prompt": token_ids, "n_predict": 1, "temperature": 0, "samplers": [], "n_probs": n_top,
            "logit_bias": [[next_id, _FORCE]], "cache_prompt": True,
        }  # fmt: skip
        status, answer = self._ask("POST", "/completion", body, ANSWER_S)
        try:
            judged = answer["completion_probabilities"][0]
            top = [(int(one["id"]), float(one["logprob"])) for one in judged["top_logprobs"]]
            chosen, logprob = judged["id"], float(judged["logprob"])
        except (LookupError, TypeError, ValueError):
            raise LlorchError(f"llama-server answers {status} without probabilities") from None
        if chosen != next_id or not top:
            raise LlorchError(f"llama-server did not choose token {next_id}, which its bias forces")
        return logprob, top

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise InputError(
                    f"llama-server ended with {self._process.returncode} before it was ready: {self._log_end()}"
                )
            try:
                if self._ask("GET", "/health", None, 5.0)[0] == http.client.OK:
                    return
            except LlorchError:
                pass
            time.sleep(0.1)
        raise LlorchError(f"llama-server is not ready after {READY_S:g} s: {self._log_end()}")

    def _log_end(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        return " ".join(text[-_LOG_CHARS:].split()) or "it wrote nothing"

    def _ask(self, method: str, path: str, body: object, timeout_s: float) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LlorchError(f"llama-server does not answer {path}: {type(error).__name__}") from None
        finally:
            connection.close()
