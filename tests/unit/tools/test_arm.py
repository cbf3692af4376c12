"""Kernels for ARM: emitted on any machine, assembled by LLVM, and run where QEMU is."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from llorch.kernels import all_units, object_cache
from tests.conftest import REPOSITORY
from tools.arm.environment import CPUS, emulator

KERNELS = ("product_q8_0", "product_iq4_nl", "read_ticks", "run_steps")
ELF_OF_AARCH64 = b"\x7fELF\x02\x01", (183).to_bytes(2, "little")
"""How such a file begins, and its machine, 18 bytes later."""


def run(words: Iterable[str], **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=REPOSITORY, env=os.environ | variables, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@functools.cache
def assembly(path: str) -> str:
    return run(["tools.arm.emit", path, *KERNELS])


@pytest.mark.parametrize(
    ("path", "has", "lacks"),
    [("i8mm", ("smmla", "sdot", "tbl"), ()), ("neon", ("sdot", ".4b[3]", "tbl"), ("smmla",)),
     ("generic", ("smull",), ("smmla", "sdot"))],
)  # fmt: skip
def test_a_path_of_arm_is_assembled_with_its_instructions(
    path: str, has: tuple[str, ...], lacks: tuple[str, ...]
) -> None:
    """A process that pretends to be one on ARM, whatever `LLORCH_CPU` says here."""
    text = assembly(path)
    missing = [word for word in (*has, "CNTVCT_EL0", "yield", "fcvtl") if word not in text]
    assert missing == []
    forbidden = "PMCCNTR_EL0"  # which programs may not read
    assert [word for word in (*lacks, forbidden) if word in text] == []


def test_a_product_of_neon_spills_no_registers() -> None:
    """Loops with a vector on the stack would be slower than narrower ones."""
    body = assembly("neon").partition("llorch_q8_0_dot_2x4_all:")[2].partition(".Lfunc_end")[0]
    loop = body[body.index("sdot") : body.rindex("sdot")]
    assert loop.count("sdot") == 2 * 4 * 8 - 1
    assert "[sp" not in loop


@pytest.mark.slow
@pytest.mark.parametrize("path", CPUS)
def test_every_kernel_of_a_path_of_arm_can_be_compiled(path: str, tmp_path: Path) -> None:
    run(["tools.arm.emit", path, "--into", str(tmp_path)])
    written = {file.stem: file.read_bytes() for file in tmp_path.iterdir()}
    # Tests declare units of their own, in whatever order they run.
    assert written.keys() == {unit.name for unit in all_units() if not unit.name.endswith("_for_tests")}
    begin, machine = ELF_OF_AARCH64
    for name, entry in written.items():
        code = entry[entry.index(begin) :]
        assert code[18:20] == machine, name
    assert object_cache.directory() != tmp_path


@pytest.mark.slow
@pytest.mark.skipif(emulator() is None, reason="no qemu-aarch64 here (Debian: apt install qemu-user-static)")
@pytest.mark.timeout(1500)
def test_an_emulated_arm_machine_gives_this_machine_s_tokens_and_bits(tmp_path: Path) -> None:
    if sys.platform != "linux" or not Path("/etc/debian_version").exists():
        pytest.skip("the ARM Python is made of Debian's packages, and this is not Debian")
    said = run(["tools.arm.check", str(tmp_path), "--paths", "i8mm", "--types", "Q8_0"])
    assert said.startswith("i8mm (QEMU's max): the same 24 tokens"), said
