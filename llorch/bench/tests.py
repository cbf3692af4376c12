"""Speed of a model in the tests of llama.cpp's `llama-bench`.

``pp512`` reads a prompt of 512 random tokens, ``tg128`` generates 128 tokens one by one from an empty context,
``tg128@8`` does that for eight sequences together. All speeds are tokens per second over all sequences.

Source: `tools/llama-bench/llama-bench.cpp` (`test_prompt`, `test_gen`); prompts compute the logits of their
last token only. A run begins with an empty cache, or, as ``tg128 @ d512``, behind 512 other tokens of each sequence.
The most probable token follows, in llama-bench a random one.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.bench.bandwidth import ReadBandwidth
from llorch.bench.limit import least_seconds
from llorch.bench.roofline import Roofline, measure_roofline
from llorch.conversation import Conversation
from llorch.errors import InputError
from llorch.kernels import paths
from llorch.machine.memory import available_memory
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama
from llorch.open_model import OpenModel, open_model
from llorch.progress import Progress, ignore_progress

SEED = 0


@dataclass(frozen=True, slots=True)
class BenchTest:
    """A llama-bench test: reading a prompt, or generating.

    Attributes:
        kind: ``"pp"``, reading a prompt, or ``"tg"``, generating.
        n_tokens: of each sequence.
        n_sequences: computed together.
        depth: tokens that each sequence has in the cache before.
    """

    kind: str
    n_tokens: int
    n_sequences: int = 1
    depth: int = 0

    @property
    def name(self) -> str:
        """``pp512``, ``tg128``, ``tg128@8``, ``tg128 @ d4096``."""
        together = f"@{self.n_sequences}" if self.n_sequences > 1 else ""
        behind = f" @ d{self.depth}" if self.depth else ""
        return f"{self.kind}{self.n_tokens}{together}{behind}"


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Speeds and derived rates of one test.

    Attributes:
        test: name of the test.
        n_threads: compute threads.
        tokens_per_s: mean over the repetitions, all sequences together.
        stddev: their sample standard deviation, 0 for a single one.
        samples_tokens_per_s: every repetition.
        n_tokens, n_sequences, depth: of the test.
        limit_tokens_per_s: what the machine allows, see `limit`.
        weight_gb_per_s: weights read per second in GB, by their size in the file, once per forward pass.
        read_gb_per_s: memory bandwidth of all threads together in GB per second, measured just before the test.
        gmac_per_s: multiply-adds of the matrices per second in billions, without attention.
        model, model_bytes: name of the model, and size of the matrices that a forward pass reads.
        kernels: kernel path, e.g. ``"avx512"``.
        weights: ``"packed"`` or ``"mapped"``.
        kv_type: number type of the KV cache.
    """

    test: str
    n_threads: int
    tokens_per_s: float
    stddev: float
    samples_tokens_per_s: tuple[float, ...]
    n_tokens: int
    n_sequences: int
    depth: int
    limit_tokens_per_s: float
    weight_gb_per_s: float
    read_gb_per_s: float
    gmac_per_s: float
    model: str
    model_bytes: int
    kernels: str
    weights: str
    kv_type: str

    def to_json(self) -> dict[str, Any]:
        """As `llorch bench --json` lists it."""
        return asdict(self)


def tests_for(
    prompts: Iterable[int], generations: Iterable[int], sequences: Iterable[int], depths: Iterable[int]
) -> list[BenchTest]:
    """All combinations, prompts first; a length of 0 leaves its test out, as in llama-bench."""
    sequences = list(sequences)
    tests = []
    for depth in depths:
        tests += [BenchTest("pp", n, depth=depth) for n in prompts if n]
        tests += [BenchTest("tg", n, together, depth) for n in generations if n for together in sequences]
    return tests


def run_bench(
    path: str | os.PathLike[str],
    tests: list[BenchTest],
    *,
    n_threads: int = 0,
    n_batch: int = 512,
    repetitions: int = 5,
    kv_type: str = "f16",
    weights: str = "auto",
    numa: str = "off",
    pin_threads: bool = False,
    progress: Progress = ignore_progress,
) -> Iterator[BenchResult]:
    """Load a model and measure it; results are yielded as they are ready.

    Args:
        path: a model file, or ``"demo"``. Its vocabulary is not read.
        tests: what to measure, in this order.
        n_threads: compute threads; 0 as many as suit the machine.
        n_batch: most rows of one forward pass.
        repetitions: of each test, after a warm-up that does not count.
        kv_type: number type of the KV cache.
        weights: residence of the weights.
        numa, pin_threads: where compute threads run, as in `open_model`.
        progress: called as the work goes on.

    Raises:
        InputError: the model or a test cannot be run.
    """
    model = open_model(
        path,
        with_tokenizer=False,
        n_threads=n_threads,
        n_batch=n_batch,
        weights=weights,
        kv_type=kv_type,
        numa=numa,
        pin_threads=pin_threads,
        progress=progress,
    )
    with model:
        llama = model.llama
        for test in tests:
            _check(test, llama, kv_type)
        roofline = measure_roofline(llama.n_threads)
        with ReadBandwidth(llama.n_threads) as bandwidth:
            for test in tests:
                read_bytes_per_s = bandwidth.measure()
                seconds = _measure(llama, test, kv_type, repetitions, progress)
                yield _result(test, seconds, read_bytes_per_s, roofline, model, kv_type)


def _check(test: BenchTest, llama: Llama, kv_type: str) -> None:
    if test.n_sequences > llama.n_batch:
        raise InputError(
            f"{test.name}: {test.n_sequences} sequences do not fit the batch size {llama.n_batch}"
        )
    n_blocks = test.n_sequences * KVCache.blocks_for(test.depth + test.n_tokens)
    need, free = n_blocks * KVCache.bytes_per_block(llama.config, kv_type), available_memory()
    if need > free:
        raise InputError(
            f"{test.name}: needs {need >> 20:,} MiB of KV cache, {free >> 20:,} MiB of memory are free"
        )


def _measure(llama: Llama, test: BenchTest, kv_type: str, repetitions: int, report: Progress) -> list[float]:
    """Seconds of each repetition."""
    talk = Conversation(llama, test.depth + test.n_tokens, n_sequences=test.n_sequences, kv_type=kv_type)
    token_ids = np.random.default_rng(SEED).integers(
        llama.config.n_vocab, size=max(test.n_tokens, test.depth) * test.n_sequences, dtype=np.int32
    )
    for sequence in range(test.n_sequences if test.depth else 0):
        report(f"{test.name} context", sequence, test.n_sequences)
        talk.feed(token_ids[sequence * test.depth :][: test.depth], sequence=sequence)

    def run(n_tokens: int) -> float:
        begun = time.perf_counter()
        if test.kind == "pp":
            talk.feed(token_ids[:n_tokens], test.depth)
        else:
            _generate(talk, token_ids[: test.n_sequences], test.depth, n_tokens)
        return time.perf_counter() - begun

    report(f"{test.name} warm-up", 0, repetitions)
    run(test.n_tokens if test.kind == "pp" else 1)
    seconds = []
    for i in range(repetitions):
        report(test.name, i, repetitions)
        seconds.append(run(test.n_tokens))
    return seconds


def _generate(talk: Conversation, token_ids: NDArray[np.int32], begin: int, n_tokens: int) -> None:
    """Generate `n_tokens` for each sequence, together, from `token_ids` (n_sequences,) at position `begin` on."""
    for position in range(begin, begin + n_tokens):
        token_ids = talk.feed_each(token_ids, position).argmax(axis=1).astype(np.int32)


def _result(
    test: BenchTest,
    seconds: list[float],
    read_bytes_per_s: float,
    roofline: Roofline,
    model: OpenModel,
    kv_type: str,
) -> BenchResult:
    llama = model.llama
    n_tokens = test.n_tokens * test.n_sequences
    is_prompt = test.kind == "pp"
    n_passes = -(-n_tokens // llama.n_batch) if is_prompt else test.n_tokens
    n_outputs = 1 if is_prompt else n_tokens
    matrices = list(llama.weights.matrices())
    n_bytes = sum(tensor.n_bytes for tensor in matrices)
    output = llama.weights.output.n_elements
    n_macs = (sum(t.n_elements for t in matrices) - output) * n_tokens + output * n_outputs
    least_s = least_seconds(
        llama, roofline, kv_type, n_passes=n_passes, n_rows=n_tokens, n_outputs=n_outputs,
        n_sequences=test.n_sequences, depth=test.depth,
    )  # fmt: skip
    samples = tuple(n_tokens / s for s in seconds)
    mean_s = statistics.fmean(seconds)
    return BenchResult(
        test=test.name,
        n_threads=llama.n_threads,
        tokens_per_s=statistics.fmean(samples),
        stddev=statistics.stdev(samples) if len(samples) > 1 else 0.0,
        samples_tokens_per_s=samples,
        n_tokens=test.n_tokens,
        n_sequences=test.n_sequences,
        depth=test.depth,
        limit_tokens_per_s=n_tokens / least_s,
        weight_gb_per_s=n_bytes * n_passes / mean_s / 1e9,
        read_gb_per_s=read_bytes_per_s / 1e9,
        gmac_per_s=n_macs / mean_s / 1e9,
        model=model.name,
        model_bytes=n_bytes,
        kernels=paths.path(),
        weights=llama.residence.kind,
        kv_type=kv_type,
    )
