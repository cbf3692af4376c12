"""The loops that measure peaks do as many multiply-adds as they say."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from llorch.kernels import peaks
from llorch.kernels.tiles.integers import MACS_A_LANE, PATH
from llorch.machine.memory import aligned_zeros
from tests.conftest import REPOSITORY

N_TURNS = 100


def test_every_integer_multiply_add_ends_up_in_the_sums() -> None:
    operands = aligned_zeros((peaks.OPERAND_BYTES,), np.uint8)
    operands[:] = 1
    peaks.multiply_integers(operands.ctypes.data, N_TURNS)
    if PATH.name == "amx":
        return  # its sums stay in the tile registers
    rows = operands[peaks.OPERAND_BYTES // 2 :].reshape(-1, peaks.LINE)[:, : PATH.lanes * 4]
    n_sums = peaks.INTEGER_MACS // (PATH.lanes * MACS_A_LANE)
    sums = np.ascontiguousarray(rows[:n_sums]).view(np.int16 if PATH.dot == "avx2" else np.int32)
    assert sums.sum(dtype=np.int64) == N_TURNS * peaks.INTEGER_MACS


def test_every_float_multiply_add_ends_up_in_the_sums() -> None:
    operands = aligned_zeros((peaks.OPERAND_BYTES // 4,), np.float32)
    operands[:] = 1
    peaks.multiply_floats(operands.ctypes.data, N_TURNS)
    sums = operands[peaks.OPERAND_BYTES // 8 :].reshape(-1, peaks.LINE // 4)[:, : PATH.lanes]
    assert sums[: peaks.FLOAT_MACS // PATH.lanes].sum() == N_TURNS * peaks.FLOAT_MACS


def test_all_of_the_memory_is_read() -> None:
    memory = aligned_zeros((3 * peaks.READ_BYTES,), np.uint8)
    for at in (0, len(memory) // 2, len(memory) - 1):
        out = aligned_zeros((4 * peaks.LINE,), np.uint8)
        memory[:] = 0
        memory[at] = 77
        peaks.read_memory(memory.ctypes.data, 3, 2, out.ctypes.data)
        assert np.bitwise_or.reduce(out) == 77


@pytest.mark.slow
@pytest.mark.parametrize("path", ["generic", "avx2", "avxvnni", "avx512", "amx", "neon", "i8mm"])
def test_the_loops_of_every_kernel_path_do_what_they_say(path: str) -> None:
    """The tests above, with the instructions of CPUs that this one may not be spelled out."""
    words = [
        "pytest",
        "-q",
        "-n",
        "0",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        __file__,
        "-k",
        "not path",
    ]
    mask = {"LLORCH_CPU": path} if path in ("generic", "avx2") else {}
    emulation = [] if mask else ["tests.support.emulated_cpu", path]
    command = [sys.executable, "-m", *emulation, *words]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | mask, capture_output=True, text=True, timeout=300
    )
    assert "3 passed" in done.stdout, done.stdout[-2000:]
