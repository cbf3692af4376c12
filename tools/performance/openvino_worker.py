"""One speed test of OpenVINO GenAI in a process of its own, for `compare_peers`; run by an interpreter that has it.

    PYTHON -m tools.performance.openvino_worker MODEL.gguf pp512 --threads 2 [--set KEY=VALUE ...]

It prints one JSON object. A GGUF file is read by OpenVINO GenAI's own reader, whose conversion of vocabularies knows
only BPE ones, and ends with ``map::at`` for SentencePiece's; so the worker passes token ids, and a tokenizer that is
never asked anything, made from a file of 256 tokens which it writes.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.performance.gguf_keys import ARRAY, INT32, STRING, pack, string
from tools.performance.peer_runs import SpeedTest

CANNOT_LOAD = "OpenVINO GenAI cannot load the model: "
"""`peer_runs` knows a refusal by these words."""
NORMAL_TOKEN, CONTROL_TOKEN = 1, 3
N_TOKENS = 256
FIRST_ID, ID_STEP, SEQUENCE_STEP = 100, 7, 500
"""Ids of prompts: an arithmetic series for each sequence, within every vocabulary of 32,000 tokens for 4,096 ids."""


def write_vocabulary(path: Path) -> None:
    """Write a GGUF file that holds a BPE vocabulary of one token per byte and no tensors.

    The first is a control token: without any, OpenVINO does not compile its detokenizer ("dead weak ptr").
    """
    tokens = [chr(0x100 + i) for i in range(N_TOKENS)]
    types = [CONTROL_TOKEN] + [NORMAL_TOKEN] * (N_TOKENS - 1)
    keys = {
        "general.architecture": pack("llama"),
        "tokenizer.ggml.model": pack("gpt2"),
        "tokenizer.ggml.pre": pack("default"),
        "tokenizer.ggml.tokens": _array(STRING, [string(token) for token in tokens]),
        "tokenizer.ggml.token_type": _array(INT32, [struct.pack("<i", kind) for kind in types]),
        "tokenizer.ggml.merges": _array(STRING, [string(f"{tokens[0]} {tokens[1]}")]),
        "tokenizer.ggml.bos_token_id": pack(0),
        "tokenizer.ggml.eos_token_id": pack(0),
    }
    header = struct.pack("<4sIQQ", b"GGUF", 3, 0, len(keys))
    path.write_bytes(header + b"".join(string(key) + value for key, value in keys.items()))


def _array(kind: int, entries: Sequence[bytes]) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, len(entries)) + b"".join(entries)


def prompt_ids(n: int, sequence: int) -> list[int]:
    """Token ids of a prompt; two sequences never share a first token."""
    return [FIRST_ID + SEQUENCE_STEP * sequence + ID_STEP * i for i in range(n)]


def run(model: Path, test: SpeedTest, n_threads: int, properties: dict[str, Any]) -> dict[str, Any]:
    """Load a model, run `test` once to warm up and once by the clock.

    Raises:
        RuntimeError: another number of tokens was generated than the test asks for.
    """
    import openvino_genai

    begun = time.perf_counter()
    try:
        pipeline = _pipeline(model, test, {"INFERENCE_NUM_THREADS": n_threads, **properties})
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        print(CANNOT_LOAD + " ".join(lines), file=sys.stderr)
        raise SystemExit(1) from None
    load_s = time.perf_counter() - begun
    n_prompt, n_generated = (test.n_tokens, 1) if test.is_prompt else (1, test.n_tokens)
    _generate(pipeline, test.n_sequences, n_prompt, n_generated, first=test.n_sequences)
    wall_s = _generate(pipeline, test.n_sequences, n_prompt, n_generated, first=0)
    n_counted = n_prompt if test.is_prompt else test.n_sequences * n_generated
    return {
        "test": test.name,
        "tokens_per_s": n_counted / wall_s,
        "wall_s": wall_s,
        "load_s": load_s,
        "n_prompt": n_prompt,
        "n_generated": n_generated,
        "n_sequences": test.n_sequences,
        "properties": properties,
        "openvino_genai": openvino_genai.get_version(),
    }


def _pipeline(model: Path, test: SpeedTest, properties: dict[str, Any]) -> Any:
    """A pipeline whose cache holds the test's sequences, without reuse of prompts."""
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False
    scheduler.max_num_batched_tokens = max(test.n_tokens, 256)
    scheduler.max_num_seqs = test.n_sequences
    block = 16  # positions; its cache on CPUs has larger ones, so that there is room to spare
    scheduler.num_kv_blocks = test.n_sequences * (-(-(test.n_tokens + 1) // block) + 2)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocabulary.gguf"
        write_vocabulary(vocabulary)
        tokenizer = openvino_genai.Tokenizer(str(vocabulary))
    return openvino_genai.ContinuousBatchingPipeline(str(model), tokenizer, scheduler, "CPU", **properties)


def _generate(pipeline: Any, n_sequences: int, n_prompt: int, n_generated: int, first: int) -> float:
    """Seconds that sequences take which begin together; `first` numbers them."""
    import numpy as np
    import openvino
    import openvino_genai

    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = n_generated
    config.ignore_eos = True
    config.do_sample = False
    prompts = [
        openvino.Tensor(np.array([prompt_ids(n_prompt, first + i)], np.int64)) for i in range(n_sequences)
    ]
    begun = time.perf_counter()
    results = pipeline.generate(prompts, [config] * n_sequences)
    wall_s = time.perf_counter() - begun
    counts = [len(result.m_generation_ids[0]) for result in results]
    if counts != [n_generated] * n_sequences:
        raise RuntimeError(
            f"OpenVINO GenAI generated {counts} tokens where {n_generated} each were asked for"
        )
    return wall_s


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL", help="a .gguf file")
    parser.add_argument("test", type=SpeedTest.parse, metavar="TEST", help="pp512, tg64 or tg64@8")
    parser.add_argument("--threads", type=int, required=True, metavar="N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a property of OpenVINO's CPU plugin"
    )
    args = parser.parse_args(argv)
    properties = dict(word.split("=", 1) for word in args.set)
    print(json.dumps(run(args.model, args.test, args.threads, properties)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
