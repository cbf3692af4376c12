#!/usr/bin/env python3
"""How do the forms of one model compare: GGUF files, directories, graphs? The table of docs/directories.md.

    python -m tools.performance.compare_directories FOLDER --make smollm2.gguf -t 2 -r 5

FOLDER holds the forms by the names of `tools.performance.model_forms`; with `--make`, those that are absent are made of
a GGUF file first. In each round every form runs once in processes of its own. Speeds are compared with the GGUF file of
the same model in the same round; figures are medians, with the extremes behind. The oracle is transformers in float32,
of another Python if `--oracle` names one. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llorch.errors import LlorchError
from llorch.formats.source import open_source
from llorch.kernels import paths
from llorch.machine.cpu import model_name
from llorch.machine.threads import default_threads
from tools.performance.model_forms import Form, make_forms, present_forms
from tools.performance.peer_runs import PeerError, SpeedTest, run_llorch, run_process

Values = dict[tuple[str, str], list[float]]
"""What was measured in each round, by file and quantity."""
N_LOGITS = 64


def say(line: str) -> None:
    """Tell what happens, beside the table."""
    print(line, file=sys.stderr, flush=True)


def worker(python: str, words: Sequence[str], timeout_s: float) -> dict[str, float]:
    """Figures of one process of `form_worker`."""
    command = [python, "-m", "tools.performance.form_worker", *words]
    figures: dict[str, float] = json.loads(run_process("form_worker", command, timeout_s)[0].splitlines()[-1])
    return figures


def measure(
    folder: Path, forms: list[Form], tests: list[SpeedTest], args: argparse.Namespace, tokens: Path
) -> Values:
    """Run all forms in rounds; every second round backwards. The first is measured twice, to compile kernels."""
    values: Values = defaultdict(list)
    for number in range(-1, args.rounds):
        for form in forms if number % 2 else reversed(forms):
            model = folder / form.file
            found = worker(
                sys.executable,
                [str(model), str(args.threads), str(tokens), str(tokens.parent / f"{form.file}.npy")],
                args.timeout,
            )
            speeds = {
                test.name: run_llorch(model, test, args.threads, (), args.timeout).tokens_per_s
                for test in tests
                if number >= 0
            }
            for quantity, value in (found | speeds).items() if number >= 0 else ():
                values[form.file, quantity].append(value)
            say(f"round {number + 1} of {args.rounds}  {form.title}")
    return values


def differences(folder: Path, forms: list[Form], args: argparse.Namespace, tokens: Path) -> dict[str, float]:
    """Largest difference of a logit from the oracle's, by form; forms whose oracle does not run are left out."""
    found = {}
    for oracle in dict.fromkeys(form.oracle for form in forms):
        out = tokens.parent / f"oracle-{oracle}.npy"
        if not (folder / oracle).is_dir():
            say(f"no oracle for {oracle}: there is no {folder / oracle}")
            continue
        try:
            worker(args.oracle, ["--oracle", str(folder / oracle), str(tokens), str(out)], args.timeout)
        except PeerError as error:
            say(f"no oracle for {oracle}: {error}")
            continue
        expected = np.load(out)
        for form in forms:
            if form.oracle == oracle:
                logits = np.load(tokens.parent / f"{form.file}.npy")
                found[form.file] = float(np.abs(logits.astype(np.float64) - expected).max())
    return found


def shown(values: Sequence[float], digits: int) -> str:
    """Median, with the extremes if they differ."""
    low, high = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if low == high else f"{middle} ({low} to {high})"


def table(
    folder: Path, forms: list[Form], tests: list[SpeedTest], values: Values, found: dict[str, float]
) -> str:
    """The Markdown table."""
    speeds = " | ".join(f"{test.name}, tokens/s | {test.name} against GGUF" for test in tests)
    lines = [
        f"| form | on disk, MB | peak memory, MB | loading, s | {speeds} | largest difference from transformers |",
        "|" + "---|" * (5 + 2 * len(tests)),
    ]
    for form in forms:
        path = folder / form.file
        n_bytes = (
            sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
        )
        cells = [form.title, f"{n_bytes / 1e6:,.0f}"]
        cells += [shown([value / 1e6 for value in values[form.file, "peak_bytes"]], 0)]
        cells += [shown(values[form.file, "load_s"], 2)]
        for test in tests:
            own, rival = values[form.file, test.name], values.get((form.rival, test.name))
            ratios = [a / b for a, b in zip(own, rival, strict=True)] if rival else []
            cells += [shown(own, 1), shown(ratios, 2) if ratios else "no GGUF"]
        cells += [f"{found[form.file]:.2g}" if form.file in found else "no oracle"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--make", type=Path, metavar="GGUF", help="make the forms that are absent of this file"
    )
    parser.add_argument("-t", "--threads", type=int, default=default_threads()[0])
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--tests", default="pp128,tg32", help="as of llama-bench (default: %(default)s)")
    parser.add_argument(
        "--oracle", default=sys.executable, metavar="PYTHON", help="one that has transformers"
    )
    parser.add_argument("--timeout", type=float, default=1800, metavar="S", help="of each process")
    args = parser.parse_args(argv)
    try:
        tests = [SpeedTest.parse(name) for name in args.tests.split(",")]
        if args.make:
            make_forms(args.make, args.folder, say)
        forms = present_forms(args.folder, say)
        if not forms:
            raise PeerError(f"{args.folder} holds no form of a model")
        with tempfile.TemporaryDirectory() as scratch:
            tokens = Path(scratch, "tokens.npy")
            source = open_source(args.folder / forms[0].file)
            n_vocab = source.tensor_infos["token_embd.weight"].shape[0]
            source.close()
            np.save(tokens, np.random.default_rng(0).integers(3, n_vocab, N_LOGITS).astype(np.int32))
            values = measure(args.folder, forms, tests, args, tokens)
            found = differences(args.folder, forms, args, tokens)
    except (PeerError, LlorchError) as error:
        say(f"compare_directories: {error}")
        return 2
    print(
        f"{model_name()}, {args.threads} threads, {paths.path()} kernels, median of {args.rounds} rounds (extremes)\n"
    )
    print(table(args.folder, forms, tests, values, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
