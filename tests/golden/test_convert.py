"""`llorch convert` writes what llama.cpp's own converter writes: every key, every byte of every tensor.

`tools/oracles/llama_cpp_converter.py` has stored what the latter makes of tiny directories.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.converted import OF_TOKENIZER_JSON, convert, differences, unexplained
from tests.support.hf_directories import sha256_of_weights
from tools.oracles.llama_cpp_converter import CASES, described, write_case

STORED = json.loads((Path(__file__).parent / "convert" / "llama_cpp.json").read_text(encoding="utf-8"))[
    "cases"
]


def test_every_case_is_stored() -> None:
    assert list(STORED) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_keys_and_tensors_are_those_of_llama_cpps_converter(name: str, tmp_path: Path) -> None:
    directory = write_case(name, tmp_path)
    assert sha256_of_weights(directory) == STORED[name]["sha256"], "the stored file belongs to other weights"
    convert(directory, tmp_path / "out.gguf", CASES[name]["outtype"])
    found = differences(described(tmp_path / "out.gguf"), STORED[name])
    is_byte_level = CASES[name].get("tokenizer") == "bpe"
    assert unexplained(found, *(() if is_byte_level else OF_TOKENIZER_JSON)) == {}
