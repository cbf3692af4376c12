"""GGUF files made from directories: what is in them, and what is refused."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.convert.conversion import own_type, plan_conversion
from llorch.convert.mixtures import file_type
from llorch.convert.quantize import Plan, plan_quantization, write_quantized
from llorch.errors import InputError
from llorch.formats.gguf.file import GGUFFile
from llorch.formats.source import open_source
from llorch.quant.tensor import dequantize
from llorch.quant.types import F32
from tests.support.hf_directories import CONFIG, random_tensors, random_values, write_directory, write_weights

MATRICES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip


def converted(source: Path, out: Path, wanted: str | None = None, **how: bool) -> Plan:
    model = open_source(source)
    try:
        plan = plan_conversion(model, out, file_type(wanted) if wanted else own_type(model), **how)
        write_quantized(model, plan, n_threads=2)
    finally:
        model.close()
    return plan


def interleaved(values: NDArray[np.float32], n_head: int) -> NDArray[np.float32]:
    """Rows of queries or keys in GGUF's order: the two halves of a head in turn."""
    halves = values.reshape(n_head, 2, len(values) // n_head // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def expected_values(name: str, **shapes: tuple[int, ...]) -> NDArray[np.float32]:
    """Values of a matrix of layer 1 of the directories made here."""
    values = random_values(f"model.layers.1.{MATRICES[name]}.weight", shapes[name])
    n_head = {"attn_q": 4, "attn_k": 2}.get(name)
    return interleaved(values, n_head) if n_head else values


@pytest.mark.parametrize("wanted", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_weights_are_those_of_the_gguf_package(tmp_path: Path, dtype: str, wanted: str) -> None:
    write_directory(tmp_path / "in", dtype=dtype)
    converted(tmp_path / "in", tmp_path / "out.gguf", wanted, is_pure=True)
    kind, source_kind = gguf.GGMLQuantizationType[wanted], gguf.GGMLQuantizationType[dtype]
    with GGUFFile(tmp_path / "out.gguf") as written:
        for name in MATRICES:
            tensor = written.tensors[f"blk.1.{name}.weight"]
            exact = expected_values(name, **{name: tensor.shape})
            values = gguf.quants.dequantize(gguf.quants.quantize(exact, source_kind), source_kind)
            expected = gguf.quants.quantize(values, kind).view(np.uint8).ravel()
            np.testing.assert_array_equal(tensor.data, expected, err_msg=name)
        assert {t.type.name for t in written.tensors.values() if len(t.shape) == 1} == {"F32"}


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_without_a_type_most_weights_keep_theirs(tmp_path: Path, dtype: str) -> None:
    other = "F32" if dtype != "F32" else "BF16"
    write_directory(tmp_path / "in", dtype={"": dtype, "norm": "F32", "q_proj": other})
    assert converted(tmp_path / "in", tmp_path / "out.gguf").wanted.name == dtype
    with GGUFFile(tmp_path / "out.gguf") as written:
        assert written.metadata["general.file_type"] == {"F32": 0, "F16": 1, "BF16": 32}[dtype]
        assert written.tensors["blk.0.attn_q.weight"].type.name == dtype


@pytest.mark.parametrize("wanted", ["Q8_0", "Q4_K_M"])
def test_a_directory_becomes_the_file_that_quantising_its_f32_file_gives(tmp_path: Path, wanted: str) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 288, "num_hidden_layers": 2}
    write_directory(tmp_path / "in", config=sizes, dtype="BF16", tokenizer="bpe")
    converted(tmp_path / "in", tmp_path / "ours.gguf", wanted)
    converted(tmp_path / "in", tmp_path / "f32.gguf", "F32")
    with GGUFFile(tmp_path / "f32.gguf") as source:
        plan = plan_quantization(source, tmp_path / "quantized.gguf", file_type(wanted))
        write_quantized(source, plan)
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "quantized.gguf").read_bytes()


def test_shards_ties_biases_and_divisors_come_along(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    settings = {"tie_word_embeddings": True, "attention_bias": True, "rope_scaling": scaling}
    write_directory(tmp_path / "in", config=settings, dtype="F16", shards=3)
    converted(tmp_path / "in", tmp_path / "out.gguf", "Q8_0")
    with GGUFFile(tmp_path / "out.gguf") as written:
        assert "output.weight" not in written.tensors
        assert written.tensors["rope_freqs.weight"].type is F32
        assert len(set(dequantize(written.tensors["rope_freqs.weight"]))) > 2
        exact = random_values("model.layers.0.self_attn.q_proj.bias", (64,)).astype(np.float16)
        bias = dequantize(written.tensors["blk.0.attn_q.bias"])
        np.testing.assert_array_equal(bias, interleaved(exact.astype(np.float32), 4))


def test_general_keys_say_what_the_model_is(tmp_path: Path) -> None:
    write_directory(tmp_path / "tiny-llama-v2")
    converted(tmp_path / "tiny-llama-v2", tmp_path / "out.gguf", "Q8_0")
    with GGUFFile(tmp_path / "out.gguf") as written:
        metadata = written.metadata
        general = {key: metadata[key] for key in metadata if key.startswith("general.")}
        n_parameters = sum(tensor.n_elements for tensor in written.tensors.values())
    assert general == {
        "general.architecture": "llama", "general.type": "model", "general.name": "Tiny Llama v2",
        "general.size_label": gguf.size_label(n_parameters, n_parameters, 0, 0),
        "general.quantization_version": 2, "general.file_type": 7,
    }  # fmt: skip


def test_a_model_without_a_tokenizer_says_so_in_llama_cpps_word(tmp_path: Path) -> None:
    write_directory(tmp_path / "in", tokenizer=False)
    converted(tmp_path / "in", tmp_path / "out.gguf")
    with GGUFFile(tmp_path / "out.gguf") as written:
        found = {key: written.metadata[key] for key in written.metadata if key.startswith("tokenizer.")}
        assert found == {"tokenizer.ggml.model": "none"}
        assert written.metadata["llama.vocab_size"] == CONFIG["vocab_size"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_no_type_can_store_leaves_nothing(tmp_path: Path, value: float) -> None:
    directory = write_directory(tmp_path / "in")
    tensors = _tensors(directory)
    tensors["model.layers.1.mlp.up_proj.weight"][1][3, 5] = value
    write_weights(directory, tensors)
    with pytest.raises(InputError, match=r"tensor 'blk\.1\.ffn_up\.weight' holds NaN or an infinite number"):
        converted(directory, tmp_path / "out.gguf", "Q8_0")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def _tensors(directory: Path) -> dict[str, tuple[str, NDArray[Any]]]:
    tensors: dict[str, tuple[str, NDArray[Any]]] = random_tensors(CONFIG, {"": "F32"})
    return tensors


def test_no_file_of_the_model_is_replaced(tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "in")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    for name in before:
        with pytest.raises(InputError, match="lies in the directory of the model"):
            converted(directory, directory / name)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    for _ in range(2):
        converted(directory, directory / "model.gguf", "Q8_0")  # beside them is fine, and once more


def test_a_gguf_file_is_sent_to_quantize(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(InputError, match="`llorch quantize`"):
        converted(tiny_model, tmp_path / "out.gguf", "Q8_0")


def test_a_model_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "in")
    model = open_source(directory)
    plan = plan_conversion(model, tmp_path / "out.gguf", file_type("Q8_0"))
    weights = directory / "model.safetensors"

    def change(*_: object) -> None:
        with weights.open("r+b") as file:
            file.truncate(weights.stat().st_size + 8)

    with pytest.raises(InputError, match=r"model\.safetensors had .* while it was read"):
        write_quantized(model, plan, progress=change)
    model.close()
    assert not (tmp_path / "out.gguf").exists()


def test_memory_does_not_depend_on_the_size_of_a_tensor(tmp_path: Path) -> None:
    peaks = []
    for n_ff in (256, 2048):
        sizes = {"intermediate_size": n_ff, "hidden_size": 256, "num_hidden_layers": 1}
        write_directory(tmp_path / str(n_ff), config=sizes, dtype="BF16", tokenizer=False)
        model = open_source(tmp_path / str(n_ff))
        plan = plan_conversion(model, tmp_path / "out.gguf", file_type("Q8_0"))
        tracemalloc.start()
        write_quantized(model, plan)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        model.close()
    assert peaks[1] < 1.5 * peaks[0] + (1 << 20)
