#!/usr/bin/env python3
"""Store every intermediate that transformers computes from tiny directories, for `llorch validate` in the tests.

python -m tools.oracles.transformers_checkpoints -o tests/golden/hugging_face/checkpoints
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tools.oracles.tiny_llamas import CHECKPOINTED_NAMES, write_checkpointed
from tools.reference import extract_checkpoints_hf

PROMPT = "Once upon a time the cat was"


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", required=True, type=Path, help="folder to write into")
    args = parser.parse_args(argv)
    for name in CHECKPOINTED_NAMES:
        with tempfile.TemporaryDirectory() as folder:
            directory = write_checkpointed(name, Path(folder) / name)
            words = ["-m", str(directory), "-p", PROMPT, "-o", str(args.out / name)]
            if code := extract_checkpoints_hf.main([*words, "--decode-stages", "kv", "--force"]):
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
