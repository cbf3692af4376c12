#!/usr/bin/env python3
"""Tiny ONNX exports of every exporter, and the logits that onnxruntime computes with them.

    python -m tools.onnx_exports.make_exports -o DIR
    python -m tools.onnx_exports.make_exports -o DIR --archive tests/golden/onnx

DIR gets a folder for each export with `model.onnx` (and what the exporter wrote beside it); those that are there
already stay. The folder of the archive gets them as `exports.zip`, `logits.npz` and `versions.json`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from tools.onnx_exports.onnxruntime_logits import PROMPT, logits_of
from tools.onnx_exports.tiny_llama import tiny_llama
from tools.onnx_exports.torch_exports import export

PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "optimum-onnx", "onnxruntime-genai")
TORCH: dict[str, tuple[str, bool, bool, int, str, torch.dtype, dict[str, bool]]] = {
    "torchscript": ("plain", False, False, 14, "eager", torch.float32, {}),
    "torchscript_past": ("one_kv_head", False, True, 17, "sdpa", torch.float32, {}),
    "torchscript_unfolded": (
        "tied",
        False,
        False,
        17,
        "eager",
        torch.float32,
        {"do_constant_folding": False},
    ),
    "torchscript_biases": ("biases", False, True, 20, "eager", torch.float32, {}),
    "torchscript_linear": ("linear", False, False, 17, "eager", torch.float32, {}),
    "torchscript_f16": ("plain", False, True, 17, "eager", torch.float16, {}),
    "dynamo": ("tied", True, False, 18, "sdpa", torch.float32, {}),
    "dynamo_past": ("llama3", True, True, 18, "sdpa", torch.float32, {}),
    "dynamo_attention": ("yarn", True, True, 23, "sdpa", torch.float32, {}),
    "dynamo_latest": ("wide_heads", True, False, 24, "sdpa", torch.float32, {}),
    "dynamo_f16": ("plain", True, True, 18, "eager", torch.float16, {}),
}
"""Variant, by the PyTorch 2 exporter, with past, opset, attention, type, options; by the export's name."""
OPTIMUM: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "optimum": ("plain", "text-generation", ()),
    "optimum_past": ("llama3", "text-generation-with-past", ()),
}
"""Variant, task, further arguments."""
GENAI: dict[str, tuple[str, str]] = {
    "genai": ("more_words", "fp32"),
    "genai_f16": ("plain", "fp16"),
    "genai_int4": ("more_words", "int4"),
}
"""Variant, precision."""
NOT_COMPUTED = ("genai_int4",)


def make_exports(out: Path, genai_path: str) -> None:
    """Write every export into `out` that is not there.

    Args:
        out: a folder.
        genai_path: where the transformers lies that the builder of ONNX Runtime GenAI needs; "" for the installed.
    """
    for name, (variant, dynamo, past, opset, attention, dtype, options) in TORCH.items():
        if not (out / name).exists():
            (out / name).mkdir()
            model = tiny_llama(variant, attention=attention).to(dtype)
            export(model, out / name / "model.onnx", past=past, dynamo=dynamo, opset=opset, **options)
    with tempfile.TemporaryDirectory() as scratch:
        for name, (variant, task, more) in OPTIMUM.items():
            if not (out / name).exists():
                words = ["optimum.exporters.onnx", "--model", _saved(variant, scratch), "--task", task, *more]
                _program([*words, str(out / name)])
        for name, (variant, precision) in GENAI.items():
            if not (out / name).exists():
                words = [
                    "onnxruntime_genai.models.builder",
                    "-i",
                    _saved(variant, scratch),
                    "-o",
                    str(out / name),
                ]
                _program([*words, "-p", precision, "-e", "cpu", "-c", scratch], genai_path)
    for path in sorted(out.glob("*/model.onnx")):
        _strip(path)


def _saved(variant: str, scratch: str) -> str:
    """A directory of Hugging Face with a variant, and the tokenizer that exporters want."""
    path = Path(scratch) / variant
    if not path.exists():
        model = tiny_llama(variant)
        model.save_pretrained(path)
        words = {f"w{i}": i for i in range(model.config.vocab_size)}
        tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(path)
    return str(path)


def _program(words: list[str], first_on_path: str = "") -> None:
    paths = [first_on_path, os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    done = subprocess.run(
        [sys.executable, "-m", *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")


def _strip(path: Path) -> None:
    """Drop what exporters note about the Python code, which is most of a tiny file."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for values in (model.graph.value_info, model.graph.input, model.graph.output, model.graph.initializer):
        for value in values:
            del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    path.write_bytes(model.SerializeToString(deterministic=True))


def archive(out: Path, target: Path) -> None:
    """Pack the graphs and their data into one file, and store what onnxruntime computes with them beside it."""
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target / "exports.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(path for path in out.rglob("*") if path.suffix in (".onnx", ".data")):
            entry = zipfile.ZipInfo(path.relative_to(out).as_posix())
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    names = sorted(path.parent.name for path in out.glob("*/model.onnx"))
    logits = {name: logits_of(out / name / "model.onnx") for name in names if name not in NOT_COMPUTED}
    np.savez_compressed(target / "logits.npz", prompt=np.array(PROMPT), **logits)  # type: ignore[arg-type]
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    (target / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


def main(argv: list[str]) -> int:
    """Make the exports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--archive", type=Path, metavar="DIR", help="folder for exports.zip and the logits")
    parser.add_argument(
        "--genai-path",
        default="",
        metavar="DIR",
        help="folder of a newer transformers, where the builder of ONNX Runtime GenAI needs one",
    )
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    make_exports(args.out, args.genai_path)
    if args.archive:
        archive(args.out, args.archive)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
