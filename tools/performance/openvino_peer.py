"""OpenVINO GenAI as a peer: it has no program for speed tests, so a worker of ours runs under its own interpreter."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llorch.validation.package_digest import package_at
from tools.performance import openvino_worker
from tools.performance.peer_runs import PeerError, Run, SpeedTest, command_shown, json_line, run_process

PACKAGES = ("openvino", "openvino_genai", "openvino_tokenizers")


@dataclass(frozen=True)
class OpenVino:
    """OpenVINO GenAI, installed in an environment of its own.

    It runs with the threads of the comparison and its defaults otherwise: paged attention, an 8-bit KV cache, bfloat16
    where the CPU has it, activations quantised in groups of 32, the hint "latency". Alternated on two Zen 4 cores
    (SmolLM2 Q8_0 pp512 / tg64 / tg64@8, tokens/s; defaults 1,700-1,850 / 62-82 / 370-530), nothing was faster beyond
    its own spread: `PERFORMANCE_HINT=THROUGHPUT` 737 / 41 / 288; `INFERENCE_PRECISION_HINT=f32` 1,280-1,540 / 60-72 /
    350-440; `DYNAMIC_QUANTIZATION_GROUP_SIZE` 64, 128 and 0 750-1,350 / 64-81 / 225-304; `KV_CACHE_PRECISION` f16
    1,490-1,700 / 66-72 / 370-420 and bf16 1,620-1,800 / 74-79 / 430-490; `ENABLE_CPU_PINNING=false` 1,735-1,855 /
    75-82 / 420-520; `ATTENTION_BACKEND=SDPA` 1,060-1,640 / 78 / 470. On 1.1B the same (Q8_0: defaults 231 / 17.4 / 103,
    without pinning 255 / 17.3 / 108, f32 221 / 17.2 / 106, SDPA 224 / 17.0 / 105).

    Attributes:
        python: interpreter that has the package `openvino-genai`.
        extra: properties of its CPU plugin, as ``KEY=VALUE``.
    """

    python: Path
    extra: tuple[str, ...] = ()
    name: str = "OpenVINO GenAI"

    def can_run(self, test: SpeedTest) -> bool:
        """It runs every test."""
        return True

    def version(self) -> str:
        """What pip recorded of its packages.

        Raises:
            PeerError: the interpreter does not have them.
        """
        found = {package["name"]: package["version"] for package in self.packages()}
        if len(found) < len(PACKAGES):
            raise PeerError(f"{self.python} has no openvino-genai and openvino-tokenizers (pip install them)")
        return "version: " + ", ".join(f"{name} {version}" for name, version in found.items())

    def programs(self) -> list[Path]:
        """The interpreter, and the worker."""
        return [self.python, Path(openvino_worker.__file__)]

    def packages(self) -> list[dict[str, Any]]:
        """What pip recorded; the interpreter's path is not resolved, because that would leave its environment."""
        site = self.python.parents[1]
        records = (
            path for name in PACKAGES for path in site.glob(f"lib/python*/site-packages/{name}-*.dist-info")
        )
        return [package_at(path) for path in sorted(records)]

    def run(self, model: Path, test: SpeedTest, n_threads: int, timeout_s: float) -> Run:
        """Run `test` once; see `Peer`."""
        command = [str(self.python), "-m", "tools.performance.openvino_worker", str(model), test.name]
        command += ["--threads", str(n_threads)]
        for word in self.extra:
            command += ["--set", word]
        out, _, wall_s = run_process(self.name, command, timeout_s)
        result = next(filter(None, map(json_line, reversed(out.splitlines()))), {})
        try:
            speed = float(result["tokens_per_s"])
        except (LookupError, TypeError, ValueError):
            raise PeerError(f"{self.name} printed no speed for {test.name}: {out[-200:]!r}") from None
        wanted = (test.n_sequences, 1 if test.is_prompt else test.n_tokens)
        if (result.get("n_sequences"), result.get("n_generated")) != wanted:
            raise PeerError(f"{self.name} ran another test than {test.name}: {json.dumps(result)[:200]}")
        return Run(self.name, command_shown(command), speed, wall_s, result)
