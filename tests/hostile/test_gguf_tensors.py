"""Tensor infos with false dimensions, types or offsets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llorch.errors import GGUFError
from llorch.formats.gguf.file import GGUFFile
from llorch.quant.types import GGML_LAYOUTS, GGML_NAMES, SUPPORTED
from tests.support.gguf_bytes import F32, Q8_0, UINT32, GGUFBytes, info, pair, small_file, string, u32, u64
from tests.support.hostile_gguf import ENORMOUS, check
from tests.support.tiny_models import write_tiny_llama


@pytest.mark.parametrize("n_dims", [0, 5, 6, 255, 2**31, 2**32 - 1])
def test_a_tensor_has_one_to_four_dimensions(tmp_path: Path, n_dims: int) -> None:
    content = small_file(infos=[info("t", [8], n_dims=n_dims)], data=bytes(32))
    check(tmp_path, content, f"tensor 't' has {n_dims} dimensions; 1 to 4")


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize(
    ("dim", "shown"), [(0, "0"), (-1, "-1"), (-(2**63), str(-(2**63))), (2**64 - 32, "-32")]
)
def test_dimensions_are_positive(tmp_path: Path, position: int, dim: int, shown: str) -> None:
    dims = [32, 32]
    dims[position] = dim
    check(
        tmp_path,
        small_file(infos=[info("t", dims)], data=bytes(4096)),
        f"dimension {position} of tensor 't' is {shown};",
    )


@pytest.mark.parametrize("kind", [F32, Q8_0])
@pytest.mark.parametrize("dim", [n & ~31 for n in ENORMOUS if 0 < n & ~31 < 2**63])
def test_an_enormous_dimension_does_not_fit(tmp_path: Path, kind: int, dim: int) -> None:
    check(
        tmp_path, small_file(infos=[info("t", [dim], kind)], data=bytes(64)), "tensor 't'.*only 64 are there"
    )
    check(
        tmp_path,
        small_file(infos=[info("t", [32, dim], kind)], data=bytes(64)),
        "tensor 't'.*only 64 are there",
    )


@pytest.mark.parametrize(
    "dims",
    [
        [2**32, 2**32],  # product 2^64
        [2**32, 2**30],  # product 2^62, bytes 2^64
        [2**62, 4],
        [2**31, 2**31, 2],
        [2**16, 2**16, 2**16, 2**16],
        [2**61 + 32, 8],  # product wraps to 256
        [2**63 - 32, 2**63 - 32, 2**63 - 32, 2**63 - 32],
        [64, 2**58 + 1],  # product wraps to 64
    ],
)
@pytest.mark.parametrize("kind", [F32, Q8_0])
def test_a_product_of_dimensions_that_would_wrap_is_refused(
    tmp_path: Path, dims: list[int], kind: int
) -> None:
    check(
        tmp_path,
        small_file(infos=[info("t", dims, kind)], data=bytes(2048)),
        "tensor 't'.*only 2048 are there",
    )


@pytest.mark.parametrize("offset", [n & ~31 for n in ENORMOUS])
def test_an_enormous_offset_is_past_the_end(tmp_path: Path, offset: int) -> None:
    content = small_file(infos=[info("t", [8], offset=offset)], data=bytes(64))
    check(tmp_path, content, f"tensor 't'.*offset {offset}, but only 0 are there")


@pytest.mark.parametrize("offset", [1, 4, 16, 31, 33, 2**64 - 1])
def test_an_unaligned_offset_is_refused(tmp_path: Path, offset: int) -> None:
    content = small_file(infos=[info("t", [8], offset=offset)], data=bytes(128))
    check(tmp_path, content, f"tensor 't' starts at data offset {offset}, which is no multiple of 32")


def test_an_offset_is_held_to_the_alignment_of_the_file(tmp_path: Path) -> None:
    content = GGUFBytes(
        pairs=[pair("general.alignment", UINT32, 64)],
        infos=[info("t", [8], offset=32)],
        data=bytes(128),
        alignment=64,
    ).build()
    check(tmp_path, content, "no multiple of 64")


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 32), (32, 0), (32, 32), (64, 32)])
def test_tensors_must_not_overlap(tmp_path: Path, first: int, second: int) -> None:
    infos = [info("a", [16], offset=first), info("b", [16], offset=second)]
    check(tmp_path, small_file(infos=infos, data=bytes(256)), "tensors '[ab]' and '[ab]' overlap")


def test_a_tensor_must_end_before_the_file(tmp_path: Path) -> None:
    whole = small_file(infos=[info("a", [8]), info("b", [9], offset=32)], data=bytes(32 + 36))
    path = tmp_path / "whole.gguf"
    path.write_bytes(whole)
    assert GGUFFile(path).tensors["b"].n_bytes == 36
    for n_missing in (1, 2, 35, 36, 37, 68):
        check(tmp_path, whole[:-n_missing], "tensor '[ab]'.*are there .is the download complete")


@pytest.mark.parametrize("kind", [n for n in range(64) if n not in GGML_LAYOUTS] + [2**31, 2**32 - 1])
def test_unknown_and_removed_types_are_named(tmp_path: Path, kind: int) -> None:
    expected = (
        f"type {GGML_NAMES[kind]}, which was removed" if kind in GGML_NAMES else f"unknown type number {kind}"
    )
    check(
        tmp_path, small_file(infos=[info("t", [256], kind)], data=bytes(4096)), f"tensor 't' has.*{expected}"
    )


@pytest.mark.parametrize("kind", [n for n in GGML_LAYOUTS if n not in SUPPORTED])
def test_unsupported_types_are_named_with_what_is_supported_and_the_command_that_helps(
    tmp_path: Path, kind: int
) -> None:
    content = small_file(infos=[info("t", [256], kind)], data=bytes(4096))
    is_quantised = GGML_LAYOUTS[kind][0] > 1
    command = "; convert the file: llama-quantize --allow-requantize FILE OUT Q4_K_M" if is_quantised else ""
    said = f"tensor 't' has type {GGML_NAMES[kind]} .*BF16, F16, F32, IQ4_NL, .*Q8_0{command}$"
    check(tmp_path, content, said)


@pytest.mark.parametrize("kind", [n for n, (block_size, _) in GGML_LAYOUTS.items() if block_size > 1])
def test_rows_are_whole_blocks(tmp_path: Path, kind: int) -> None:
    size = GGML_LAYOUTS[kind][0]
    for dims in ([size + 1, size], [size - 1], [1, size], [size * 2 - 1, 1, 1, 1]):
        content = small_file(infos=[info("t", dims, kind)], data=bytes(1 << 17))
        check(
            tmp_path,
            content,
            f"tensor 't' has rows of {dims[0]} elements; {GGML_NAMES[kind]} needs a multiple",
        )


def test_a_lying_number_of_dimensions_shifts_the_rest_and_is_found(tmp_path: Path) -> None:
    check(tmp_path, small_file(infos=[info("t", [32, 32], n_dims=1)], data=bytes(4096)), "tensor|file ends")
    tensor = string("t") + u32(4) + u64(32)
    check(tmp_path, small_file(infos=[tensor]), "'t'")


# Truncation


@pytest.fixture(scope="module")
def tiny_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_llama(path, n_embd=32, n_ff=32, n_vocab=270)
    return path.read_bytes()


def first_tensor_offset(path: Path) -> int:
    return min(info.offset for info in GGUFFile(path).tensor_infos.values())


def test_truncation_at_every_byte_of_the_header_is_an_error(tmp_path: Path, tiny_content: bytes) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(tiny_content)
    header_bytes = first_tensor_offset(path)
    assert 5000 < header_bytes < len(tiny_content)
    path.write_bytes(tiny_content[:header_bytes])
    with path.open("r+b") as file:  # shortening a file is faster than writing it again
        for n_bytes in range(header_bytes, -1, -1):
            file.truncate(n_bytes)
            with pytest.raises(GGUFError, match=re.escape(str(path))):
                GGUFFile(path)


def test_truncation_of_the_data_is_an_error(tmp_path: Path, tiny_content: bytes) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(tiny_content)
    with GGUFFile(path) as whole:
        ends = sorted(info.offset + info.n_bytes for info in whole.tensor_infos.values())
    assert ends[-1] > 0.9 * len(tiny_content)
    for end in ends:
        for n_bytes in (end - 1, end - 17):
            check(tmp_path, tiny_content[:n_bytes], r"tensor '.*\.weight'.*are there")


def test_bytes_after_the_last_tensor_do_no_harm(tmp_path: Path, tiny_content: bytes) -> None:
    path = tmp_path / "longer.gguf"
    path.write_bytes(tiny_content + b"trailing")
    assert len(GGUFFile(path).tensors) == 12
