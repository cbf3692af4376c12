#!/usr/bin/env python3
"""Write what llama-perplexity prints for a model and a text as a golden file for the tests.

    python -m tools.reference.extract_perplexity --binary llama-perplexity -m MODEL.gguf [--base BASE.gguf] \
        -f wiki.test.raw [--text-bytes 24000] [--letters] [-c 512] [--chunks 8] -o tests/golden/perplexity

With a base model, its predictions are written first and the model is compared with them. The build must add as
`LLORCH_SUMS=llama.cpp` does: for AVX2, without llamafile (`-DGGML_NATIVE=OFF -DGGML_LLAMAFILE=OFF`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.reference.ggml_tensor import ReferenceToolError
from tools.reference.perplexity_output import printed_figures

SCHEMA = "llorch-perplexity/1"
FLAGS = ("-t", "1", "--no-repack", "-fa", "off", "-ctk", "f32", "-ctv", "f32")
ENVIRONMENT = {"GGML_CPU_TILED_MM": "0"}
"""With `FLAGS`: every product row by row, a float32 KV cache."""
ATTEMPTS = 20
N_STATISTICS = 34
"""Lines of figures behind a comparison."""


@dataclass(frozen=True)
class Text:
    """A part of a text file.

    Attributes:
        n_bytes: how much of it, from the beginning.
        letters_only: leave out all but ASCII letters, spaces, commas and points, for vocabularies without bytes.
    """

    n_bytes: int
    letters_only: bool

    def of(self, data: bytes) -> bytes:
        """The text, of the bytes of the file."""
        text = data[: self.n_bytes].decode(errors="ignore")
        return (re.sub(r"[^a-zA-Z ,.]", "", text) if self.letters_only else text).encode()


def run_llama(binary: Path, *arguments: str) -> str:
    """All that llama-perplexity prints.

    Raises:
        ReferenceToolError: it fails.
    """
    done = subprocess.run(
        [str(binary), *FLAGS, *arguments], capture_output=True, env=os.environ | ENVIRONMENT, check=False
    )
    output = (done.stderr + b"\n" + done.stdout).decode(errors="replace")
    if done.returncode:
        raise ReferenceToolError(f"{binary} failed:\n{output[-2000:]}")
    return output


def complete_figures(binary: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """All figures of a run, and what it says of the system; it is repeated while its last lines are missing.

    Its log is written by a thread of its own, for which the program does not wait when it ends.

    Raises:
        ReferenceToolError: it fails, or never prints everything.
    """
    for _ in range(ATTEMPTS):
        output = run_llama(binary, *arguments)
        figures = printed_figures(output)
        n_chunks = re.search(r"over (\d+) chunks", output)
        is_whole = figures["final"] or len(figures["statistics"]) == N_STATISTICS
        if is_whole and n_chunks and len(figures["running"]) == int(n_chunks.group(1)):
            system = re.search(r"system_info: (.*)", output)
            return figures, system.group(1).strip() if system else ""
    raise ReferenceToolError(f"{binary} did not print all its figures in {ATTEMPTS} attempts")


def extract(
    binary: Path, model: Path, base: Path | None, text: bytes, n_ctx: int, n_chunks: int
) -> dict[str, Any]:
    """Run the program on one text; returns its figures and what they are of."""
    with tempfile.TemporaryDirectory() as folder:
        path, logits = Path(folder, "text"), Path(folder, "base")
        path.write_bytes(text)
        common = ("-c", str(n_ctx), "-b", str(n_ctx))
        read = ("-f", str(path), *common, "--chunks", str(n_chunks))
        if base is None:
            figures, system = complete_figures(binary, "-m", str(model), *read)
        else:
            run_llama(binary, "-m", str(base), *read, "--kl-divergence-base", str(logits))
            compare = ("--kl-divergence", "--kl-divergence-base", str(logits))
            figures, system = complete_figures(binary, "-m", str(model), *common, *compare)
    return {
        "schema": SCHEMA,
        "system_info": system,
        "model": _identity(model),
        "base": None if base is None else _identity(base),
        "n_ctx": n_ctx,
        **figures,
    }


def _identity(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, required=True, help="llama-perplexity")
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="model to compare with")
    parser.add_argument("-f", "--file", type=Path, required=True, help="the text")
    parser.add_argument("--text-bytes", type=int, default=1 << 40, help="how much of it (all)")
    parser.add_argument(
        "--letters", action="store_true", help="only ASCII letters, spaces, commas and points"
    )
    parser.add_argument("-c", "--ctx-size", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=-1)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args(argv)
    data = args.file.read_bytes()
    text = Text(min(args.text_bytes, len(data)), args.letters)
    try:
        document = extract(args.binary, args.model, args.base, text.of(data), args.ctx_size, args.chunks)
    except ReferenceToolError as error:
        print(f"extract_perplexity: {error}", file=sys.stderr)
        return 1
    document["text"] = {
        "file": args.file.name,
        "n_bytes": text.n_bytes,
        "letters_only": text.letters_only,
        "sha256": hashlib.sha256(text.of(data)).hexdigest(),
    }
    target = args.output / f"{args.model.stem}.json"
    target.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(f"{target}: {len(document['running'])} chunks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
