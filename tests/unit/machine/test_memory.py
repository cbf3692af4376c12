"""The memory that is left, and arrays on cache lines."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from llorch.machine import memory


@pytest.mark.parametrize(("group_left", "available"), [(math.inf, 3 << 20), (5000, 5000), (1 << 40, 3 << 20)])
def test_the_tighter_of_system_and_control_group_counts(
    group_left: float, available: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  8192 kB\nMemFree:  1024 kB\nMemAvailable:  3072 kB\n")
    monkeypatch.setattr(memory, "MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "memory_left", lambda: group_left)
    assert memory.available_memory() == available


def test_where_the_system_does_not_say_half_of_the_memory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MEMORY_INFO", tmp_path / "missing")
    monkeypatch.setattr(memory, "memory_left", lambda: math.inf)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert memory.available_memory() == 1000 * 4096 // 2


@pytest.mark.parametrize("alignment", [64, 4096])
@pytest.mark.parametrize("n", [1, 63, 64, 5000])
def test_aligned_bytes_begin_where_asked(n: int, alignment: int) -> None:
    data = memory.aligned_bytes(n, alignment)
    assert (len(data), data.dtype.name, data.ctypes.data % alignment) == (n, "uint8", 0)


def test_aligned_zeros_are_zeros_of_the_shape_wanted() -> None:
    data = memory.aligned_zeros((3, 5), np.int32)
    assert (data.shape, data.dtype.name, data.ctypes.data % memory.CACHE_LINE) == ((3, 5), "int32", 0)
    assert not data.any()


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float32])
@pytest.mark.parametrize("n", [1, 64, 100, 576, 1536, 4096])
def test_aligned_rows_are_zeros_an_odd_number_of_cache_lines_apart(n: int, dtype: type[np.generic]) -> None:
    rows = memory.aligned_rows(5, n, dtype)
    assert (rows.shape, rows.dtype) == ((5, n), np.dtype(dtype))
    assert not rows.any()
    assert rows.ctypes.data % 64 == 0
    n_lines, rest = divmod(rows.strides[0], 64)
    assert (n_lines % 2, rest) == (1, 0)
    assert 0 <= rows.strides[0] - n * rows.itemsize < 128
