#!/usr/bin/env python3
"""Write a GGUF file of a named shape and type with random weights and a real vocabulary.

    python -m tools.performance.make_synthetic 1.1B --type q4_k_m --out 1.1B-q4_k_m.gguf

Speed depends on the number of weights, not on their values, so such a file stands for the real model in
benchmarks. Weights have a standard deviation near 0.02; they come from pools that repeat after some
hundred thousand blocks, which makes writing as fast as the disk. Same shape, type, vocabulary and seed: same bytes.
The vocabulary's `tokenizer.*` keys are copied from a vocabulary GGUF as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import shutil
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tools.performance.gguf_keys import GGUFKeysError, array_length, extend_array, pack, read_keys, string
from tools.performance.synthetic_blocks import FILE_TYPES, POOL_BLOCKS, BlockType, FileType
from tools.performance.synthetic_shapes import SHAPES, Shape

TOKENS = "tokenizer.ggml.tokens"
UNUSED_TOKEN = 5
ALIGNMENT = 32
F32 = 0
N_POOLS = 4
"""Of each weight format."""
SPARE_BYTES = 64 << 20
"""Bytes left free on the disk."""


class SyntheticError(Exception):
    """The file cannot be made."""


def default_vocabulary(shape: Shape) -> Path:
    """The test models' vocabulary of `shape`'s kind."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "models"
    folder = Path(os.environ.get("LLORCH_TEST_MODELS", folder))
    return folder / f"ggml-vocab-llama-{shape.vocabulary}.gguf"


def make_synthetic(
    shape: Shape, vocabulary: Path, out: Path, *, name: str, seed: int = 0, file_type: str = "q8_0"
) -> Shape:
    """Write `out`, replacing it whole when it exists.

    Args:
        shape: sizes; the vocabulary is filled up with unused tokens to its `n_vocab`, and a larger vocabulary
            makes the model larger.
        vocabulary: GGUF file with the `tokenizer.*` keys.
        out: file to write.
        name: `general.name`.
        seed: of the weights.
        file_type: a name of `FILE_TYPES`.

    Returns:
        The shape that was written.

    Raises:
        SyntheticError: the vocabulary cannot be used, rows are no whole blocks, or the disk is too full.
    """
    kind = FILE_TYPES[file_type]
    tokenizer = _tokenizer_keys(vocabulary)
    shape = dataclasses.replace(shape, n_vocab=max(shape.n_vocab, array_length(tokenizer[TOKENS])))
    keys = {
        "general.architecture": pack("llama"),
        "general.name": pack(name),
        "general.file_type": pack(kind.number),
        "general.quantization_version": pack(2),
        **{key: pack(value) for key, value in shape.metadata().items()},
        **_filled_up(tokenizer, shape.n_vocab),
    }
    tensors = _planned(shape, kind)
    header = _header(keys, tensors)
    n_bytes = len(header) + sum(_padded(tensor.n_bytes) for tensor in tensors)
    free = shutil.disk_usage(out.parent).free
    if free < n_bytes + SPARE_BYTES:
        raise SyntheticError(f"{out.parent} has {free / 1e9:.1f} GB free, {n_bytes / 1e9:.1f} GB are needed")
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(header)
            _write_tensors(file, shape, tensors, seed)
            if file.tell() != n_bytes:
                raise SyntheticError(f"wrote {file.tell()} bytes where {n_bytes} were planned")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return shape


def _tokenizer_keys(vocabulary: Path) -> dict[str, bytes]:
    try:
        keys = {key: value for key, value in read_keys(vocabulary).items() if key.startswith("tokenizer.")}
        array_length(keys[TOKENS])
    except FileNotFoundError:
        raise SyntheticError(f"there is no vocabulary at {vocabulary} (give one with --vocab)") from None
    except GGUFKeysError as error:
        raise SyntheticError(str(error)) from None
    except KeyError:
        raise SyntheticError(f"{vocabulary} holds no vocabulary ({TOKENS} is missing)") from None
    return keys


def _filled_up(tokenizer: dict[str, bytes], n_vocab: int) -> dict[str, bytes]:
    """The vocabulary, filled up to `n_vocab` with unused tokens behind the real ones."""
    have = array_length(tokenizer[TOKENS])
    count = n_vocab - have
    fillers = {
        TOKENS: b"".join(string(f"<unused_{i}>") for i in range(have, n_vocab)),
        "tokenizer.ggml.scores": struct.pack("<f", -1e4) * count,
        "tokenizer.ggml.token_type": struct.pack("<i", UNUSED_TOKEN) * count,
    }
    return tokenizer | {
        key: extend_array(tokenizer[key], count, entries)
        for key, entries in fillers.items()
        if count and key in tokenizer
    }


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor to write: its NumPy shape, and its weight format; None is F32."""

    name: str
    dims: tuple[int, ...]
    blocks: BlockType | None

    @property
    def n_bytes(self) -> int:
        """Size in the file."""
        n = math.prod(self.dims)
        return n // self.blocks.block_size * self.blocks.block_bytes if self.blocks else 4 * n


def _planned(shape: Shape, kind: FileType) -> list[_Tensor]:
    """All tensors of the file: matrices in blocks, vectors F32."""
    planned = []
    for name, dims in shape.tensors():
        blocks = None
        if len(dims) > 1:
            blocks = kind.type_of(name, dims[-1], shape.n_layer, shape.tied)
            if dims[-1] % blocks.block_size:
                raise SyntheticError(
                    f"{name}: rows of {dims[-1]} values are not whole blocks of {blocks.block_size}"
                )
        planned.append(_Tensor(name, dims, blocks))
    return planned


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def _header(keys: dict[str, bytes], tensors: list[_Tensor]) -> bytes:
    """Everything before the tensor data."""
    parts = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys))]
    parts += [string(key) + value for key, value in keys.items()]
    offset = 0
    for tensor in tensors:
        fastest_first = struct.pack(f"<{len(tensor.dims)}Q", *reversed(tensor.dims))
        ggml_id = tensor.blocks.ggml_id if tensor.blocks else F32
        parts.append(string(tensor.name) + struct.pack("<I", len(tensor.dims)) + fastest_first)
        parts.append(struct.pack("<IQ", ggml_id, offset))
        offset += _padded(tensor.n_bytes)
    header = b"".join(parts)
    return header + bytes(_padded(len(header)) - len(header))


def _write_tensors(file: IO[bytes], shape: Shape, tensors: list[_Tensor], seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = list(dict.fromkeys(tensor.blocks for tensor in tensors if tensor.blocks))
    pools = {blocks: [blocks.pool(rng) for _ in range(N_POOLS)] for blocks in kinds}
    for tensor in tensors:
        if tensor.name == "rope_freqs.weight" and shape.rope_scaling:
            divisors = shape.rope_scaling.divisors(shape.head_dim, shape.rope_freq_base)
            file.write(np.array(divisors, "<f4").tobytes())
        elif tensor.blocks is None:
            file.write((1 + 0.05 * rng.standard_normal(tensor.dims)).astype("<f4").tobytes())
        else:
            pool = pools[tensor.blocks][rng.integers(N_POOLS)]
            start = int(rng.integers(POOL_BLOCKS)) * tensor.blocks.block_bytes
            file.writelines(_pieces(pool, start, tensor.n_bytes))
        file.write(bytes(_padded(tensor.n_bytes) - tensor.n_bytes))


def _pieces(pool: NDArray[np.uint8], start: int, n_bytes: int) -> Iterable[memoryview]:
    """`n_bytes` of the pool from `start` on, wrapping around."""
    view = pool.data
    while n_bytes:
        piece = view[start : start + n_bytes]
        yield piece
        n_bytes -= len(piece)
        start = 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES, help="named sizes")
    parser.add_argument("--type", choices=FILE_TYPES, default="q8_0", help="weight formats (default: q8_0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: SHAPE-TYPE.gguf)")
    parser.add_argument("--vocab", type=Path, metavar="GGUF", help="vocabulary (default: the test models')")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (default: 0)")
    args = parser.parse_args(argv)
    shape = SHAPES[args.shape]
    out = args.out or Path(f"{args.shape}-{args.type}.gguf")
    try:
        if args.seed < 0:
            raise SyntheticError(f"--seed {args.seed}: expected 0 or more")
        vocabulary = args.vocab or default_vocabulary(shape)
        name = f"synthetic {args.shape}"
        written = make_synthetic(shape, vocabulary, out, name=name, seed=args.seed, file_type=args.type)
    except (SyntheticError, OSError) as error:
        print(f"make_synthetic: {error}", file=sys.stderr)
        return 2
    size = out.stat().st_size
    print(
        f"{out}: {written.n_parameters / 1e6:,.1f} M random weights shaped like {written.like}, {size:,} bytes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
