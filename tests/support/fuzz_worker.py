"""Loads mutants of a tiny model and lets those that load generate four tokens; run in a process of its own.

    python -m tests.support.fuzz_worker DIRECTORY SEED N

The number of each mutant is printed before it is tried, so that a crash or a hang names its mutant; the last
line is a JSON object of counts.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import llorch
from llorch.errors import InputError, NumericalError
from llorch.formats.gguf.file import GGUFFile
from tests.support import mutants
from tests.support.tiny_models import write_tiny_llama

N_TOKENS = 4
MAX_SECONDS_EACH = 20
IN_PLACE = [mutants.flip_bit, mutants.set_byte, mutants.set_u32, mutants.set_u64, mutants.swap]
"""Mutations that leave everything else where it was; most of these models load."""


def tiny_mutants(path: Path, seed: int, n: int) -> Iterator[bytes]:
    """`n` mutants of the tiny model written to `path`: of its header, its data, and the whole file."""
    write_tiny_llama(path, types={"attn_q.weight": "BF16", "ffn_up.weight": "F16"})
    content = path.read_bytes()
    with GGUFFile(path) as file:
        header_bytes = min(info.offset for info in file.tensor_infos.values())
    n_each = n // 3
    return chain(
        mutants.mutants(content, n_each, seed=seed, reach=header_bytes, kinds=IN_PLACE),
        mutants.mutants(content, n_each, seed=seed + 1, reach=len(content), kinds=IN_PLACE),
        mutants.mutants(content, n - 2 * n_each, seed=seed + 2, reach=len(content)),
    )


def generate(path: Path) -> str:
    """What became of the model at `path`: ``"refused"``, ``"generated"`` or ``"overflowed"``.

    Finite weights that are absurdly large overflow on the way to the logits; the engine says so.
    """
    try:
        model = llorch.load(path)
    except InputError as error:
        if not str(error).isprintable():
            raise AssertionError(f"not one printable line: {error!r}") from error
        return "refused"
    try:
        generation = model.generate("Hello", max_tokens=N_TOKENS, temperature=0.0)
        if generation.finish_reason != "stop" and len(generation.token_ids) != N_TOKENS:
            raise AssertionError(f"{len(generation.token_ids)} tokens, {generation.finish_reason}")
    except NumericalError:
        return "overflowed"
    finally:
        model.close()
    return "generated"


def peak_memory() -> int:
    """Most bytes that this program had in memory (Linux).

    `getrusage` will not do: its figure begins with that of the process that started this one, the test runner.
    """
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


def main(directory: Path, seed: int, n: int) -> None:
    path = directory / "mutant.gguf"
    outcomes: Counter[str] = Counter(refused=0, generated=0, overflowed=0)
    for index, content in enumerate(tiny_mutants(path, seed, n)):
        print(f"mutant {index} of seed {seed}", flush=True)
        mutants.overwrite(path, content)
        faulthandler.dump_traceback_later(MAX_SECONDS_EACH, exit=True)
        outcomes[generate(path)] += 1
        faulthandler.cancel_dump_traceback_later()
    peak_bytes = peak_memory()
    print(json.dumps({**outcomes, "peak_bytes": peak_bytes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
