"""The forms of one model that `compare_directories` compares, by the names of their files in one folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Form:
    """A form of a model.

    Attributes:
        title: in the table.
        file: name in the folder.
        rival: the GGUF file of the same model, with which speeds are compared.
        oracle: the directory from which the oracle computes what this form should.
    """

    title: str
    file: str
    rival: str
    oracle: str


FORMS = (
    Form("GGUF F32", "f32.gguf", "f32.gguf", "f32"),
    Form("directory F32", "f32", "f32.gguf", "f32"),
    Form("ONNX fp32", "onnx-fp32", "f32.gguf", "f32"),
    Form("GGUF F16", "f16.gguf", "f16.gguf", "f16"),
    Form("directory F16", "f16", "f16.gguf", "f16"),
    Form("ONNX fp16", "onnx-fp16", "f16.gguf", "f16"),
    Form("GGUF BF16", "bf16.gguf", "bf16.gguf", "bf16"),
    Form("directory BF16", "bf16", "bf16.gguf", "bf16"),
    Form("GGUF Q8_0", "q8_0.gguf", "q8_0.gguf", "f32"),
    Form("directory w8a8", "w8a8", "q8_0.gguf", "w8a8"),
)
"""Each after the GGUF file with which it is compared."""

ROOT = Path(__file__).resolve().parents[2]


def present_forms(folder: Path, say: Callable[[str], None]) -> list[Form]:
    """The forms that are in a folder; the others are named."""
    absent = [form for form in FORMS if not (folder / form.file).exists()]
    for form in absent:
        say(f"{form.title} is left out: there is no {folder / form.file}")
    return [form for form in FORMS if form not in absent]


def make_forms(source: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Make the forms that a folder lacks of a GGUF file; one that cannot be made is named and left out.

    ONNX graphs are not made here: they are exported by other programs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for dtype in ("F32", "F16", "BF16"):
        module = "tools.make_hf_directory"
        _make(folder / dtype.lower(), [module, str(source), "{out}", "--dtype", dtype], say)
    _make(folder / "w8a8", ["tools.make_w8a8", str(folder / "bf16"), "{out}"], say)
    for kind, made_of in (("F32", "f32"), ("F16", "f16"), ("BF16", "bf16"), ("Q8_0", "f32")):
        words = ["llorch", "convert", str(folder / made_of), "{out}", "--type", kind]
        _make(folder / f"{kind.lower()}.gguf", words, say)


def _make(out: Path, words: Sequence[str], say: Callable[[str], None]) -> None:
    """Run a module, unless what it makes is there."""
    if out.exists():
        return
    command = [sys.executable, "-m", *(word.format(out=out) for word in words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        say(f"{out.name} could not be made: {said[-1] if said else f'exit code {done.returncode}'}")
