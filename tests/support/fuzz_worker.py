"""Loads mutants of a tiny model and lets those that load generate four tokens; run in a process of its own.

    python -m tests.support.fuzz_worker FOLDER SEED N gguf|directory

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
from llorch.errors import ContextLengthError, InputError, NumericalError
from llorch.formats.gguf.file import GGUFFile
from tests.support import mutants
from tests.support.hf_directories import write_directory
from tests.support.json_mutants import json_mutants
from tests.support.mutants import overwrite
from tests.support.tiny_models import write_tiny_llama

N_TOKENS = 4
MAX_SECONDS_EACH = 20
IN_PLACE = [mutants.flip_bit, mutants.set_byte, mutants.set_u32, mutants.set_u64, mutants.swap]
"""Mutations that leave everything else where it was; most of these models load."""


Mutants = Iterator[tuple[Path, Path, bytes]]
"""Each is a model, one of its files, and what to write into that."""


def gguf_mutants(folder: Path, seed: int, n: int) -> Mutants:
    """`n` mutants of a tiny GGUF file: of its header, its data, and the whole file."""
    path = folder / "mutant.gguf"
    write_tiny_llama(path, types={"attn_q.weight": "BF16", "ffn_up.weight": "F16"})
    content = path.read_bytes()
    with GGUFFile(path) as file:
        header_bytes = min(info.offset for info in file.tensor_infos.values())
    n_each = n // 3
    contents = chain(
        mutants.mutants(content, n_each, seed=seed, reach=header_bytes, kinds=IN_PLACE),
        mutants.mutants(content, n_each, seed=seed + 1, reach=len(content), kinds=IN_PLACE),
        mutants.mutants(content, n - 2 * n_each, seed=seed + 2, reach=len(content)),
    )
    return ((path, path, mutant) for mutant in contents)


def directory_mutants(folder: Path, seed: int, n: int) -> Mutants:
    """`n` mutants of a tiny directory: of its weights, its config and its tokenizer, one file at a time."""
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = {"rope_scaling": rope, "attention_bias": True, "num_hidden_layers": 1}
    path = write_directory(folder / "model", config=config, dtype={"": "BF16", "mlp": "F16", "norm": "F32"})
    weights = (path / "model.safetensors").read_bytes()
    n_each = n // 4
    yield from (
        (path, path / "model.safetensors", mutant)
        for reach in (2000, len(weights))
        for mutant in mutants.mutants(weights, n_each, seed=seed, reach=reach, kinds=IN_PLACE)
    )
    overwrite(path / "model.safetensors", weights)
    for name, n_of_file in (("config.json", n_each), ("tokenizer.json", n - 3 * n_each)):
        original = (path / name).read_bytes()
        for mutant in json_mutants(json.loads(original), n_of_file, seed=seed):
            yield path, path / name, mutant
        overwrite(path / name, original)


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
    except ContextLengthError:
        return "refused"  # as short a context as a file may say, the prompt does not fit
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


def main(folder: Path, seed: int, n: int, form: str) -> None:
    outcomes: Counter[str] = Counter(refused=0, generated=0, overflowed=0)
    made = gguf_mutants if form == "gguf" else directory_mutants
    for index, (model, file, content) in enumerate(made(folder, seed, n)):
        print(f"mutant {index} of seed {seed}", flush=True)
        overwrite(file, content)
        faulthandler.dump_traceback_later(MAX_SECONDS_EACH, exit=True)
        outcomes[generate(model)] += 1
        faulthandler.cancel_dump_traceback_later()
    peak_bytes = peak_memory()
    print(json.dumps({**outcomes, "peak_bytes": peak_bytes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
