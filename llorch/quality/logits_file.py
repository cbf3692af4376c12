"""llama-perplexity's file of a base model's predictions: its tokens, and log-probabilities rounded to 16 bits.

    8 bytes     "_logits_"
    3 × int32   n_ctx, n_vocab, n_chunks
    int32       token ids, n_chunks × n_ctx of them
    rows        one for each prediction that counts, in order

A row is a float32 scale, a float32 minimum and a uint16 for each token of the vocabulary, behind which an odd one has
padding. ``minimum + scale * value`` is the log-probability; those below the largest by more than 16 are cut there.
All is little-endian.

Source: `tools/perplexity/perplexity.cpp` of llama.cpp; files of either program are read by the other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llorch.convert.written_beside import FileBeside, check_place, written_beside
from llorch.errors import InputError
from llorch.formats.printed import printable
from llorch.quality.chunks import MIN_CONTEXT, Chunks, bos_of
from llorch.quality.log_softmax import log_sums
from llorch.text.tokenizer import Tokenizer

MAGIC = b"_logits_"
RANGE = np.float32(16)
"""Log-probabilities are kept from the largest down to so much less."""
LEVELS = np.float32(65535)
_N_HEADER = len(MAGIC) + 12
_N_LEADING = 4
"""uint16 that scale and minimum take."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in a file of these sizes."""

    n_ctx: int
    n_vocab: int
    n_chunks: int

    @property
    def n_rows(self) -> int:
        """Predictions that count, of all chunks."""
        return self.n_chunks * (self.n_ctx - 1 - self.n_ctx // 2)

    @property
    def row_values(self) -> int:
        """uint16 of a row."""
        return _N_LEADING + 2 * ((self.n_vocab + 1) // 2)

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return 2 * self.row_values

    def offset(self, row: int) -> int:
        """Where a row begins."""
        return _N_HEADER + 4 * self.n_chunks * self.n_ctx + row * self.row_bytes

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return self.offset(self.n_rows)


def encode_rows(logits: NDArray[np.float32]) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Rows as the file has them, and the logarithms of the sums of exponentials relative to the largest logits.

    Args:
        logits: float32 (n, n_vocab).
    """
    n, n_vocab = logits.shape
    largest, sums = log_sums(logits)
    log_sum = sums.astype(np.float32)
    smallest = np.maximum(logits.min(axis=1), largest - RANGE)
    scale = (largest - smallest) / LEVELS
    rows = np.zeros((n, Layout(0, n_vocab, 0).row_values), np.uint16)
    rows[:, :_N_LEADING] = np.stack([scale, smallest - largest - log_sum], axis=1).view(np.uint16)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    levels = np.maximum(logits, smallest[:, None]) - smallest[:, None]
    levels *= inverse[:, None]
    rows[:, _N_LEADING : _N_LEADING + n_vocab] = np.minimum(np.rint(levels, out=levels), LEVELS)
    return rows, log_sum


class BaseWriter:
    """A judge that writes what it sees into a base file.

    Attributes:
        losses: float64 (n_predictions,), negative log-likelihoods of the tokens.
    """

    def __init__(self, file: FileBeside, layout: Layout) -> None:
        self._file = file
        self._layout = layout
        self.losses = np.zeros(layout.n_rows)

    def take(self, first: int, logits: NDArray[np.float32], wanted: NDArray[np.int32]) -> None:
        """See `Judge`."""
        rows, log_sum = encode_rows(logits)
        of_wanted = logits[np.arange(len(wanted)), wanted]
        self.losses[first : first + len(wanted)] = (logits.max(axis=1) + log_sum) - of_wanted
        self._file.write(self._layout.offset(first), rows.data)


@contextmanager
def writing_base(path: Path, chunks: Chunks, n_vocab: int) -> Iterator[BaseWriter]:
    """Write a base file, which appears whole or not at all; its space is reserved before anything is computed.

    Raises:
        InputError: it cannot be written there, for example because the disk is too small.
    """
    layout = Layout(chunks.n_ctx, n_vocab, chunks.n_chunks)

    def check(written: Path) -> None:
        BaseFile.open(written, n_vocab).close()

    with written_beside(path, layout.n_bytes, check) as file:
        sizes = np.array([layout.n_ctx, layout.n_vocab, layout.n_chunks], "<i4")
        file.write(0, MAGIC + sizes.tobytes() + chunks.token_ids.astype("<i4").tobytes())
        yield BaseWriter(file, layout)


def check_base_place(path: Path, sources: tuple[Path, ...]) -> None:
    """Refuse a place that a base file cannot take; `sources` are files that are read.

    Raises:
        InputError: it is one of `sources`, something that is no file, or in no folder.
    """
    check_place(path, sources)


class BaseFile:
    """An open base file; threads may read from it at the same time.

    Attributes:
        layout: its sizes.
        token_ids: int32 (n_chunks, n_ctx).
    """

    def __init__(self, path: Path, descriptor: int, layout: Layout, token_ids: NDArray[np.int32]) -> None:
        """Use `open` instead."""
        self.path = path
        self.layout = layout
        self.token_ids = token_ids
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path, n_vocab: int) -> Self:
        """Open and check everything but the rows.

        Args:
            path: of the file.
            n_vocab: of the model that is to be compared.

        Raises:
            InputError: it is no such file, not whole, or of a model with another vocabulary.
            OSError: it cannot be read.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe would wait here
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{printable(path)}: is no regular file; a base file was expected")
            layout = _layout(path, _read(descriptor, 0, _N_HEADER), n_vocab, os.fstat(descriptor).st_size)
            data = _read(descriptor, _N_HEADER, layout.offset(0) - _N_HEADER)
            ids = np.frombuffer(data, "<i4").astype(np.int32).reshape(layout.n_chunks, layout.n_ctx)
            if ids.min() < 0 or ids.max() >= n_vocab:
                raise InputError(f"{printable(path)}: has token ids outside its vocabulary of {n_vocab}")
            return cls(path, descriptor, layout, ids)
        except BaseException:
            os.close(descriptor)
            raise

    def rows(self, first: int, n: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
        """Scales (n,), minima (n,) and values (n, n_vocab) of `n` rows.

        Raises:
            InputError: a scale or minimum is no log-probability's.
        """
        data = _read(self._descriptor, self.layout.offset(first), n * self.layout.row_bytes)
        rows = np.frombuffer(data, "<u2").reshape(n, self.layout.row_values)
        leading = np.ascontiguousarray(rows[:, :_N_LEADING]).view("<f4")
        scales, minima = leading[:, 0], leading[:, 1]
        if not (np.isfinite(leading).all() and scales.min() >= 0 and minima.max() <= 0):
            raise InputError(f"{printable(self.path)}: is damaged (rows {first} to {first + n - 1})")
        return scales, minima, rows[:, _N_LEADING : _N_LEADING + self.layout.n_vocab]

    def chunks(self, tokenizer: Tokenizer, most: int | None = None) -> Chunks:
        """Its text for the model of `tokenizer`, up to `most` chunks."""
        return Chunks(self.token_ids[:most], bos_of(tokenizer))

    def is_of(self, chunks: Chunks) -> bool:
        """Whether its text is that of `chunks`."""
        return np.array_equal(self.token_ids, chunks.token_ids)

    @property
    def identity(self) -> tuple[int, ...]:
        """Tells this file from others, and from itself before it was written anew."""
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _layout(path: Path, header: bytes, n_vocab: int, n_bytes: int) -> Layout:
    """The sizes in a header, checked against the model and the size of the file."""
    name = printable(path)
    if len(header) < _N_HEADER or not header.startswith(MAGIC):
        raise InputError(
            f"{name}: is no base file of llama-perplexity or llorch (it does not begin with _logits_)"
        )
    n_ctx, found, n_chunks = (int(value) for value in np.frombuffer(header[len(MAGIC) :], "<i4"))
    if n_ctx < MIN_CONTEXT or n_chunks < 1 or found < 1:
        raise InputError(f"{name}: is damaged (context {n_ctx}, vocabulary {found}, {n_chunks} chunks)")
    if found != n_vocab:
        raise InputError(f"{name}: is of a model with a vocabulary of {found}; this model's has {n_vocab}")
    layout = Layout(n_ctx, found, n_chunks)
    if n_bytes != layout.n_bytes:
        raise InputError(
            f"{name}: {n_chunks} chunks of {n_ctx} tokens take {layout.n_bytes} bytes, the file has {n_bytes}"
        )
    return layout


def _read(descriptor: int, offset: int, n: int) -> bytes:
    """`n` bytes at `offset`, or those that there are."""
    parts = []
    while n > 0 and (part := os.pread(descriptor, n, offset)):
        parts.append(part)
        offset, n = offset + len(part), n - len(part)
    return b"".join(parts)
