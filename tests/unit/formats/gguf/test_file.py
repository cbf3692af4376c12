"""GGUF files are read as they were written: metadata of all types, tensors of all supported types, views."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from llorch.errors import GGUFError, LlorchError
from llorch.formats.gguf.file import GGUFFile
from llorch.formats.source import ModelSource, open_source
from llorch.quant.types import BF16, F16, F32, GGML_LAYOUTS, GGML_NAMES, Q8_0
from tests.support import gguf_bytes as raw
from tests.support.tiny_models import tiny_metadata, write_tiny_llama

MAX_OPEN_SECONDS = 0.5

SCALARS: list[tuple[int, str, object]] = [
    (raw.UINT8, "uint8", 255),
    (raw.INT8, "int8", -128),
    (raw.UINT16, "uint16", 65535),
    (raw.INT16, "int16", -32768),
    (raw.UINT32, "uint32", 2**32 - 1),
    (raw.INT32, "int32", -(2**31)),
    (raw.UINT64, "uint64", 2**64 - 1),
    (raw.INT64, "int64", -(2**63)),
    (raw.FLOAT32, "float32", 0.5),
    (raw.FLOAT64, "float64", 0.1),
]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("kind", "name", "expected"), SCALARS)
def test_a_number_is_read_with_its_type(
    tmp_path: Path, version: int, kind: int, name: str, expected: object
) -> None:
    content = raw.GGUFBytes(version=raw.u32(version), pairs=[raw.pair("a.key", kind, expected)]).build()
    file = GGUFFile(write(tmp_path / "a.gguf", content))
    assert file.version == version
    assert file.metadata["a.key"] == expected
    assert type(file.metadata["a.key"]) is type(expected)
    assert file.metadata.value_type("a.key") == name


def test_bools_and_strings_are_read(tmp_path: Path) -> None:
    content = raw.small_file(
        raw.pair("yes", raw.BOOL, 1),
        raw.pair("no", raw.BOOL, 0),
        raw.pair("text", raw.STRING, "häßlich\n\0"),
        raw.pair("empty", raw.STRING, ""),
    )
    metadata = GGUFFile(write(tmp_path / "a.gguf", content)).metadata
    assert metadata["yes"] is True
    assert metadata["no"] is False
    assert metadata["text"] == "häßlich\n\0"
    assert metadata["empty"] == ""
    assert list(metadata) == ["general.architecture", "yes", "no", "text", "empty"]
    assert len(metadata) == 5
    assert metadata.get("absent") is None
    with pytest.raises(KeyError):
        metadata["absent"]


@pytest.mark.parametrize(("kind", "name", "expected"), SCALARS)
def test_an_array_of_numbers_keeps_its_stored_type(
    tmp_path: Path, kind: int, name: str, expected: object
) -> None:
    content = raw.small_file(
        raw.array("many", kind, [expected, 0, expected]),
        raw.array("none", kind, []),
        raw.pair("after", kind, 1),
    )
    metadata = GGUFFile(write(tmp_path / "a.gguf", content)).metadata
    many, none = metadata["many"], metadata["none"]
    assert isinstance(many, np.ndarray)
    assert isinstance(none, np.ndarray)
    assert many.dtype == none.dtype == np.dtype(name)
    assert many.tolist() == [expected, 0, expected]
    assert none.size == 0
    assert not many.flags.writeable
    assert metadata["after"] == 1
    assert metadata.value_type("many") == f"array of {name}"


def test_arrays_of_strings_are_bytes_and_of_bools_are_bools(tmp_path: Path) -> None:
    tokens = [b"<s>", b"", b"\xff\xfe not UTF-8", "▁Hello".encode()]
    content = raw.small_file(
        raw.array("tokens", raw.STRING, tokens),
        raw.array("none", raw.STRING, []),
        raw.array("flags", raw.BOOL, [1, 0]),
        raw.pair("after", raw.UINT8, 7),
    )
    metadata = GGUFFile(write(tmp_path / "a.gguf", content)).metadata
    assert metadata["tokens"] == tokens
    assert metadata["tokens"] is metadata["tokens"]
    assert metadata["none"] == []
    flags = metadata["flags"]
    assert isinstance(flags, np.ndarray)
    assert flags.dtype == np.bool_
    assert flags.tolist() == [True, False]
    assert metadata["after"] == 7


def test_metadata_equals_what_the_gguf_package_wrote(tiny: Path) -> None:
    metadata = GGUFFile(tiny).metadata
    expected = tiny_metadata(
        n_vocab=320, n_layer=1, n_embd=64, n_head=4, n_head_kv=2, n_ff=96, n_ctx_train=128
    )
    assert set(metadata) == {"general.architecture", *expected}
    for key, (kind, value) in expected.items():
        found = metadata[key]
        if isinstance(found, np.ndarray):
            found = found.tolist()
        assert found == (pytest.approx(value) if kind == gguf.GGUFValueType.FLOAT32 else value), key


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_tensors_are_the_bytes_that_the_gguf_package_reads(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path, type=kind, n_ff=172)
    file = GGUFFile(path)
    reference = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert list(file.tensors) == list(reference)
    for name, tensor in file.tensors.items():
        expected = reference[name]
        assert tensor.name == name
        assert tensor.type.name == expected.tensor_type.name
        assert tensor.shape == tuple(reversed(expected.shape.tolist()))
        assert tensor.n_bytes == expected.n_bytes == file.tensor_infos[name].n_bytes
        assert tensor.data.tobytes() == expected.data.tobytes()
    assert {t.type for t in file.tensors.values()} >= {
        F32,
        {"F32": F32, "F16": F16, "BF16": BF16}.get(kind, Q8_0),
    }


def test_every_alignment_that_is_a_power_of_two_from_8_is_honoured(tmp_path: Path) -> None:
    values = np.arange(3, dtype=np.float32)
    for alignment in (8, 32, 64, 4096):
        content = raw.GGUFBytes(
            pairs=[raw.pair("general.alignment", raw.UINT32, alignment)],
            infos=[raw.info("a", [3]), raw.info("b", [3], offset=alignment * 2)],
            data=values.tobytes().ljust(alignment * 2, b"\0") + (values + 1).tobytes(),
            alignment=alignment,
        ).build()
        file = GGUFFile(write(tmp_path / f"{alignment}.gguf", content))
        assert file.alignment == alignment
        assert file.tensors["a"].data.view(np.float32).tolist() == [0, 1, 2]
        assert file.tensors["b"].data.view(np.float32).tolist() == [1, 2, 3]
        assert file.tensors["b"].address % 8 == 0


def test_tensors_may_lie_in_another_order_than_the_header_and_with_gaps(tmp_path: Path) -> None:
    content = raw.small_file(
        infos=[raw.info("late", [2], offset=128), raw.info("early", [2], offset=32)],
        data=bytes(32)
        + np.array([1, 2], np.float32).tobytes().ljust(96, b"\0")
        + np.array([3, 4], np.float32).tobytes(),
    )
    file = GGUFFile(write(tmp_path / "a.gguf", content))
    assert list(file.tensors) == ["late", "early"]
    assert file.tensors["late"].data.view(np.float32).tolist() == [3, 4]
    assert file.tensors["early"].data.view(np.float32).tolist() == [1, 2]


def test_tensor_data_are_read_only_views_on_the_map(tiny: Path) -> None:
    data = GGUFFile(tiny).tensors["output.weight"].data
    assert not data.flags.owndata
    assert not data.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        data[0] = 1


def test_views_outlive_the_file_and_release_it_when_they_go(tiny: Path) -> None:
    file = GGUFFile(tiny)
    expected = file.tensors["output.weight"].data.tobytes()
    view = file.tensors["output.weight"].data
    map_alive = weakref.ref(file._file.bytes)
    file.close()
    file.close()
    assert view.tobytes() == expected
    del file
    gc.collect()
    assert view.tobytes() == expected
    assert map_alive() is not None
    del view
    gc.collect()
    assert map_alive() is None


def test_a_closed_file_says_so(tiny: Path) -> None:
    with GGUFFile(tiny) as file:
        scores = file.metadata["tokenizer.ggml.scores"]
    assert file.metadata["tokenizer.ggml.scores"] is scores
    assert file.metadata["llama.block_count"] == 1
    for read in (file.metadata.__getitem__, file.metadata.pair):
        with pytest.raises(LlorchError, match=r"tokenizer\.ggml\.tokens.*closed"):
            read("tokenizer.ggml.tokens")
    with pytest.raises(LlorchError, match="is closed"):
        _ = file.tensors


def test_a_known_type_without_kernels_can_be_inspected_but_not_run(tmp_path: Path) -> None:
    content = raw.small_file(
        infos=[raw.info("norm", [4]), raw.info("matrix", [256, 2], raw.IQ2_XXS, 32)], data=bytes(32 + 132)
    )
    file = GGUFFile(write(tmp_path / "k.gguf", content))
    info = file.tensor_infos["matrix"]
    assert (info.type_name, info.shape, info.n_bytes, info.is_supported) == ("IQ2_XXS", (2, 256), 132, False)
    with pytest.raises(
        GGUFError, match=r"k\.gguf: tensor 'matrix' has type IQ2_XXS .*BF16, F16, F32, IQ4_NL, "
    ):
        _ = file.tensors


def test_the_layout_table_is_that_of_the_gguf_package() -> None:
    assert {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()} == GGML_LAYOUTS
    for kind in gguf.GGMLQuantizationType:
        assert GGML_NAMES[int(kind)] == kind.name
    for ours in (F32, F16, BF16, Q8_0):
        assert GGML_LAYOUTS[ours.ggml_id] == (ours.block_size, ours.block_bytes)


def test_opening_through_the_source_gives_the_protocol(tiny: Path) -> None:
    source: ModelSource = open_source(str(tiny))
    assert source.path == tiny
    assert source.metadata["general.name"] == "tiny llama"
    assert len(source.tensors) == 12
    source.close()


@pytest.mark.parametrize(
    ("name", "n_tokens"), [("ggml-vocab-llama-spm.gguf", 32_000), ("ggml-vocab-llama-bpe.gguf", 128_256)]
)
def test_a_real_vocabulary_opens_at_once(model_path: Callable[[str], Path], name: str, n_tokens: int) -> None:
    path = model_path(name)
    start = time.thread_time()
    with GGUFFile(path) as file:
        tokens = file.metadata["tokenizer.ggml.tokens"]
        elapsed = time.thread_time() - start
        assert isinstance(tokens, list)
        assert len(tokens) == n_tokens
        assert np.shape(file.metadata["tokenizer.ggml.token_type"]) == (n_tokens,)
    assert elapsed < MAX_OPEN_SECONDS


@pytest.mark.parametrize(
    "name", ["stories260K-q8_0.gguf", "stories260K-f16.gguf", "tinystories-656k-f32.gguf"]
)
def test_real_models_read_as_the_gguf_package_reads_them(
    model_path: Callable[[str], Path], name: str
) -> None:
    path = model_path(name)
    reference = gguf.GGUFReader(path)
    with GGUFFile(path) as file:
        for field in reference.fields.values():
            if not field.name.startswith("GGUF."):
                expected = field.contents()
                found: object = file.metadata[field.name]
                if isinstance(found, np.ndarray):
                    found = found.tolist()
                elif isinstance(found, list):
                    found = [token.decode() for token in found]
                assert found == expected, field.name
        for tensor in reference.tensors:
            ours = file.tensors[tensor.name]
            assert ours.type.name == tensor.tensor_type.name
            assert ours.data.tobytes() == tensor.data.tobytes()


def test_tensors_stay_valid_when_their_pages_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    with GGUFFile(path) as file:
        before = {name: tensor.data.copy() for name, tensor in file.tensors.items()}
        file.forget_pages()
        for name, tensor in file.tensors.items():
            np.testing.assert_array_equal(tensor.data, before[name])
