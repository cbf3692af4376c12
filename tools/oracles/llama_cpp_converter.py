"""What llama.cpp's own converter makes of directories: run it, or store what it makes of the tiny ones.

python -m tools.oracles.llama_cpp_converter LLAMA_CPP -o tests/golden/convert/llama_cpp.json

LLAMA_CPP is a folder of llama.cpp's sources. This Python needs torch and transformers; the converter brings its own
`gguf` package.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llorch.formats.gguf.file import GGUFFile
from tests.support.hf_directories import sha256_of_weights, write_directory
from tools.oracles.tiny_llamas import directory_of

SCHEMA = 1
PROGRAM = "convert_hf_to_gguf.py"
LONGEST = 64
"""Texts and arrays above this length are stored as their length and SHA-256."""

_RUN = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
from conversion.base import TextModel
pre = sys.argv[2]
if pre:
    TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
program = sys.argv[1] + "/" + sys.argv[3]
sys.argv = [program, *sys.argv[4:]]
runpy.run_path(program, run_name="__main__")
"""

IN_F32 = (
    "gqa", "mha", "mqa", "tied", "no_kv_heads_key", "wide_heads", "narrow_heads", "attention_biases", "mlp_biases",
    "linear", "yarn", "dynamic_within_its_context", "eps_and_theta",
)  # fmt: skip

CASES: Mapping[str, Mapping[str, Any]] = {
    **{name: {"outtype": "f32"} for name in IN_F32},
    "bf16": {"outtype": "bf16"},
    "bf16_tied_sharded": {"outtype": "f16"},
    "bf16_biases": {"outtype": "q8_0", "tokenizer": "bpe"},
    "f16": {"outtype": "f16", "tokenizer": "bpe"},
    "mixed": {"outtype": "bf16"},
    "sharded": {"outtype": "q8_0"},
    "llama3": {"outtype": "q8_0", "tokenizer": "bpe"},
}
"""Type and tokenizer (the SentencePiece kind where it is not said) by the name of a tiny directory."""

PRE = "smaug-bpe"
"""Name of the pre-tokenizer of the tiny byte-level vocabulary. The converter knows names by the ids that whole
vocabularies give a certain text, so that no tiny one is known to it."""


def run_converter(
    llama_cpp: Path, directory: Path, out: Path, outtype: str, pre: str = "", python: str = sys.executable
) -> None:
    """Convert a directory with llama.cpp's program.

    Args:
        llama_cpp: folder of the sources.
        directory: what to convert.
        out: file to write.
        outtype: as the program spells it.
        pre: name of the pre-tokenizer, in place of the one the program would find.
        python: interpreter that has torch and transformers.
    """
    words = [str(llama_cpp), pre, PROGRAM, str(directory), "--outfile", str(out), "--outtype", outtype]
    paths = {"PYTHONPATH": str(llama_cpp / "gguf-py"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-c", _RUN, *words], env=os.environ | paths, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def write_case(name: str, folder: Path) -> Path:
    """Write the directory of a case into `folder`, called so that the converter names the model after it."""
    arguments = directory_of(name) | {"tokenizer": CASES[name].get("tokenizer", "spm")}
    return write_directory(folder / name, **arguments)


def described(path: Path) -> dict[str, Any]:
    """Metadata, by key, as value type and value, and tensors, by name, as type, shape and SHA-256."""
    with GGUFFile(path) as file:
        metadata = {key: [file.metadata.value_type(key), _short(file.metadata[key])] for key in file.metadata}
        tensors = {
            name: [tensor.type.name, list(tensor.shape), hashlib.sha256(tensor.data.data).hexdigest()]
            for name, tensor in file.tensors.items()
        }
    return {"metadata": metadata, "tensors": tensors}


def _short(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        value = [
            item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else item for item in value
        ]
    if isinstance(value, list | str) and len(value) > LONGEST:
        return {"length": len(value), "sha256": hashlib.sha256(json.dumps(value).encode()).hexdigest()}
    return value


def main() -> None:
    """Store what the converter makes of every tiny directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("llama_cpp", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, how in CASES.items():
            directory = write_case(name, folder)
            pre = PRE if how.get("tokenizer") == "bpe" else ""
            run_converter(args.llama_cpp, directory, folder / "out.gguf", how["outtype"], pre)
            case = {"sha256": sha256_of_weights(directory), **described(folder / "out.gguf")}
            lines.append(f"  {json.dumps(name)}: {json.dumps(case)}")
            print(name, flush=True)
    about = {"schema": SCHEMA, "generated_by": "tools/oracles/llama_cpp_converter.py; do not edit"}
    head = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in about.items()]
    cases = ",\n".join(lines)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        ",\n".join([*head, f' "cases": {{\n{cases}\n }}']).join(["{\n", "\n}\n"]), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
