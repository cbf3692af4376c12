"""A 70B model by its layout: `llorch inspect` plans its memory from the header, in seconds, and reads no weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from llorch.kernels.weights.formats import FORMATS
from tests.support.headers import LLAMA_70B, write_header

MIXTURES = {"Q8_0": ("Q8_0", "Q8_0"), "Q4_K_M": ("Q4_K", "Q6_K"), "Q4_0": ("Q4_0", "Q6_K")}
"""The usual type of the weights, and the better one of some."""
KNOWN = [name for name, types in MIXTURES.items() if {*types} <= {kind.name for kind in FORMATS}]

MOST_CPU_S = 10.0
MOST_MEMORY_BYTES = 1 << 30
"""Of a file of 40 to 75 GB; importing Numba takes a tenth of it."""
N_CTX, N_PARALLEL = 2048, 2
FLAGS = ("-c", str(N_CTX), "-np", str(N_PARALLEL))


@pytest.fixture(scope="module", params=KNOWN)
def header(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A sparse file of a mixture, and how many bytes its matrices have beside the embedding table."""
    path = tmp_path_factory.mktemp("large") / "70b.gguf"
    n_bytes = write_header(path, LLAMA_70B, *MIXTURES[request.param])
    assert path.stat().st_size > 38e9
    assert path.stat().st_blocks * 512 < 1 << 20
    norms = sum(size for name, size in n_bytes.items() if "norm" in name or "rope" in name)
    return path, sum(n_bytes.values()) - n_bytes["token_embd.weight"] - norms


INSPECT = """
import sys
from pathlib import Path
from llorch.cli.main import main
code = main(sys.argv[1:])
(peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(peak.split()[1], file=sys.stderr)
sys.exit(code)
"""
"""Runs a command and says the most memory it took, in KiB; what the system counts for a child begins with its
parent's."""


def planned(path: Path, weights: str) -> dict[str, Any]:
    """What `llorch inspect` says, in a process of its own, within the limits of CPU time and memory."""
    command = [sys.executable, "-c", INSPECT, "inspect", "-m", str(path), *FLAGS, "--json"]
    environment = {**os.environ, "LLORCH_WEIGHTS": weights}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        document: dict[str, Any] = json.load(process.stdout)
        peak_kib = int(process.stderr.read().split()[-1])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert used.ru_utime + used.ru_stime < MOST_CPU_S
    assert peak_kib * 1024 < MOST_MEMORY_BYTES
    return document


def test_the_memory_of_a_70b_model_is_planned_from_its_header(header: tuple[Path, int]) -> None:
    path, matrix_bytes = header
    found = planned(path, "mapped")
    names = ("n_layer", "n_embd", "n_head", "n_head_kv", "head_dim", "n_ff", "n_vocab")
    assert [found["config"][name] for name in names] == [80, 8192, 64, 8, 128, 28672, 128256]
    memory = found["memory"]
    assert (memory["weights_residence"], memory["weights_bytes"]) == ("mapped", 0)
    assert memory["file_bytes"] == matrix_bytes
    # Packed is the embedding table, too, and tiles may bring unpacked scales.
    assert matrix_bytes < memory["packed_bytes"] < 1.15 * path.stat().st_size
    assert memory["kv_bytes_per_token"] == 2 * 2 * 80 * 8 * 128, "keys and values of two bytes"
    assert memory["kv_bytes"] == N_PARALLEL * N_CTX * memory["kv_bytes_per_token"]


def test_packed_residence_of_a_70b_model_is_planned_and_told(
    header: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLORCH_WEIGHTS", "packed")
    assert main(["inspect", "-m", str(header[0]), *FLAGS, "--json"]) == 0
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert memory["weights_residence"] == "packed"
    assert memory["weights_bytes"] == memory["packed_bytes"] > header[1]
    assert main(["inspect", "-m", str(header[0]), *FLAGS]) == 0
    text = capsys.readouterr().out
    assert "GiB packed (as set)" in text
    assert f"at most 1.2 GiB (f16, 2 sequences of {N_CTX} tokens, 320.0 KiB a token)" in text
