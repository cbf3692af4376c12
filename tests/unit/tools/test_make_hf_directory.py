"""Directories of Hugging Face made from GGUF files hold the same model in Hugging Face's names and orders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.formats.gguf.file import GGUFFile
from llorch.model.config import ModelConfig
from llorch.quant.tensor import dequantize
from tests.support.tiny_models import write_tiny_llama
from tools.hf_llama_config import llama3_divisors
from tools.make_hf_directory import DTYPES, make_directory

KIND = gguf.GGUFValueType


def made(source: Path, directory: Path, **how: Any) -> dict[str, Any]:
    """Make a directory; its config.json."""
    with GGUFFile(source) as file:
        make_directory(file, directory, **how)
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return config


def weights(directory: Path, pattern: str = "*.safetensors") -> dict[str, NDArray[np.float32]]:
    """Values by name, read without the code that wrote them."""
    found: dict[str, NDArray[np.float32]] = {}
    for path in sorted(directory.glob(pattern)):
        raw = path.read_bytes()
        start = 8 + int.from_bytes(raw[:8], "little")
        for name, entry in json.loads(raw[8:start]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                data = np.frombuffer(raw[start + begin : start + end], np.uint8)
                found[name] = DTYPES[entry["dtype"]][0].decode(data).reshape(entry["shape"])
    return found


def test_a_directory_has_the_weights_of_the_one_its_gguf_was_made_from(
    model_path: Callable[[str], Path], tmp_path: Path
) -> None:
    config = made(model_path("tinystories-656k-f32.gguf"), tmp_path / "made")
    original = model_path("tinystories-656k")
    ours, theirs = weights(tmp_path / "made"), weights(original)
    theirs["model.embed_tokens.weight"] = theirs.pop("lm_head.weight")  # tied: either name does
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)
    expected = json.loads((original / "config.json").read_text())
    del expected["transformers_version"]
    assert {key: config[key] for key in expected} == expected


def test_quantised_weights_are_decoded_and_rounded(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "in.gguf", type="Q8_0")
    made(tmp_path / "in.gguf", tmp_path / "made", dtype="BF16")
    with GGUFFile(tmp_path / "in.gguf") as file:
        exact = dequantize(file.tensors["blk.0.ffn_up.weight"])
    encode, decode = DTYPES["BF16"][0].encode, DTYPES["BF16"][0].decode
    assert encode is not None
    expected = decode(encode(exact.ravel())).reshape(exact.shape)
    np.testing.assert_array_equal(weights(tmp_path / "made")["model.layers.0.mlp.up_proj.weight"], expected)


def test_shards_share_the_weights_and_an_index_names_them(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "in.gguf", type="F16")
    made(tmp_path / "in.gguf", tmp_path / "one")
    made(tmp_path / "in.gguf", tmp_path / "three", n_shards=3)
    index = json.loads((tmp_path / "three" / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]
    one, three = weights(tmp_path / "one"), weights(tmp_path / "three")
    assert one.keys() == three.keys() == index["weight_map"].keys()
    for name, file in index["weight_map"].items():
        np.testing.assert_array_equal(weights(tmp_path / "three", file)[name], one[name])
    assert index["metadata"]["total_size"] == sum(values.nbytes for values in one.values())


def test_divisors_of_frequencies_become_llama_3s_scaling(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "plain.gguf", type="F32")
    with GGUFFile(tmp_path / "plain.gguf") as file:
        config = ModelConfig.from_metadata(file.metadata)
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    divisors = llama3_divisors(scaling, config)
    assert len(set(divisors)) > 2
    write_tiny_llama(tmp_path / "in.gguf", type="F32", tensor_overrides={"rope_freqs.weight": divisors})
    assert made(tmp_path / "in.gguf", tmp_path / "made")["rope_scaling"] == scaling
    write_tiny_llama(tmp_path / "odd.gguf", type="F32", tensor_overrides={"rope_freqs.weight": divisors**2})
    with pytest.raises(SystemExit, match=r"rope_freqs\.weight is not what Llama 3's scaling gives"):
        made(tmp_path / "odd.gguf", tmp_path / "odd")


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_stretched_positions_become_rope_scaling(tmp_path: Path, kind: str) -> None:
    keys = {"llama.rope.scaling.type": (KIND.STRING, kind), "llama.rope.scaling.factor": (KIND.FLOAT32, 4.0)}
    if kind == "yarn":
        keys["llama.rope.scaling.original_context_length"] = (KIND.UINT32, 32)
    write_tiny_llama(tmp_path / "in.gguf", type="F32", overrides=keys)
    expected = {"rope_type": kind, "factor": 4.0}
    if kind == "yarn":
        expected["original_max_position_embeddings"] = 32
    assert made(tmp_path / "in.gguf", tmp_path / "made")["rope_scaling"] == expected


def test_all_tokens_that_end_are_listed(tmp_path: Path) -> None:
    keys = {"tokenizer.ggml.eot_token_id": (KIND.UINT32, 5)}
    write_tiny_llama(tmp_path / "in.gguf", type="F32", overrides=keys)
    assert made(tmp_path / "in.gguf", tmp_path / "made")["eos_token_id"] == [2, 5]
    generation = json.loads((tmp_path / "made" / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"]) == (1, [2, 5])


def test_the_vocabulary_and_the_template_come_along(tmp_path: Path) -> None:
    write_tiny_llama(
        tmp_path / "in.gguf", type="F32", overrides={"tokenizer.chat_template": "{{ messages }}"}
    )
    made(tmp_path / "in.gguf", tmp_path / "made")
    vocabulary = json.loads((tmp_path / "made" / "tokenizer.json").read_text())["model"]["vocab"]
    with GGUFFile(tmp_path / "in.gguf") as file:
        tokens: Any = file.metadata["tokenizer.ggml.tokens"]
    assert vocabulary == {token.decode(): i for i, token in enumerate(tokens)}
    assert (
        json.loads((tmp_path / "made" / "tokenizer_config.json").read_text())["chat_template"]
        == "{{ messages }}"
    )


def test_nothing_is_written_among_other_files(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "in.gguf", type="F32")
    with pytest.raises(SystemExit, match="is not empty"):
        made(tmp_path / "in.gguf", tmp_path)
