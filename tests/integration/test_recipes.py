"""The recipes of CONTRIBUTING.md, taken out of the page, applied to a copy of the repository, and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
STEP = re.compile(
    r"`(?P<path>[\w./]+\.py)`, (?:(?P<new>a new file)|(?P<how>after|in place of)\s+`(?P<old>[^`]+)`):\n\n"
    r"```python\n(?P<code>.*?)```\n",
    re.DOTALL,
)


def apply_recipe(title: str, folder: Path) -> list[str]:
    """Apply every step under a heading to the copy in `folder`; returns the files touched."""
    section = PAGE.split(f"## Recipe: {title}\n")[1].split("\n## ")[0]
    touched = []
    for step in STEP.finditer(section):
        path = folder / step["path"]
        touched.append(step["path"])
        if step["new"]:
            assert not path.exists(), f"{path} is there already: the recipe is out of date"
            path.write_text(step["code"], "utf-8")
            continue
        source = path.read_text("utf-8")
        assert source.count(step["old"]) == 1, f"{step['path']} does not hold {step['old']!r} once"
        code = step["code"].rstrip("\n")
        path.write_text(
            source.replace(step["old"], f"{step['old']}\n{code}" if step["how"] == "after" else code), "utf-8"
        )
    assert touched, f"no step found under {title!r}"
    return touched


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and of what the tests support."""
    skipped = shutil.ignore_patterns("__pycache__", "golden", "reference")
    for name in ("llorch", "tests"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=skipped)
    return tmp_path


def run_python(code: str, folder: Path, **environment: str) -> str:
    """What a new process prints that imports the copy; kernels that no recipe has changed are in the usual cache."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "LLORCH_CPU")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


WEIGHT_FORMAT = """
import gguf
import numpy as np
from llorch.cli.main import main
from llorch.kernels import paths
from llorch.quant.tensor import Tensor, dequantize
from llorch.quant.types import TQ2_0
from tests.support import kernel_calls, naive
from tests.support.tiny_models import write_tiny_llama
from pathlib import Path

rng = np.random.default_rng(0)
values = rng.standard_normal((24, 512)).astype(np.float32)
kind = gguf.GGMLQuantizationType.TQ2_0
data = gguf.quantize(values, kind).ravel()
weight = Tensor("w", TQ2_0, values.shape, kernel_calls.guarded(data))
np.testing.assert_array_equal(dequantize(weight), gguf.dequantize(data.reshape(24, -1), kind))
np.testing.assert_array_equal(kernel_calls.embed(weight, [3, 0, 23]), dequantize(weight)[[3, 0, 23]])
x = rng.standard_normal((25, 512)).astype(np.float32)
expected = x.astype(np.float64) @ dequantize(weight).T.astype(np.float64)
for packed in (True, False):
    error = kernel_calls.matmul(weight, x, n_threads=2, packed=packed) - expected
    assert np.sqrt((error**2).mean() / (expected**2).mean()) < 0.01  # activations have 8 bits
paths.sums = lambda: "llama.cpp"
twin = kernel_calls.matmul(weight, x)
np.testing.assert_allclose(twin, kernel_calls.matmul(weight, x, n_threads=2), rtol=1e-5, atol=1e-4)
paths.sums = lambda: "llorch"
write_tiny_llama(Path("tiny.gguf"), n_embd=256, n_ff=512, types={"weight": "TQ2_0"})
assert main(["inspect", "-m", "tiny.gguf", "--json"]) == 0
assert main(["generate", "Hello", "-m", "tiny.gguf", "-n", "4"]) == 0
"""


@pytest.mark.slow
def test_the_recipe_for_a_weight_format_makes_a_file_of_it_run(copy: Path) -> None:
    touched = apply_recipe("a weight format", copy)
    assert sorted(set(touched)) == [
        "llorch/kernels/tiles/file_superblocks.py",
        "llorch/kernels/weights/block_formats.py",
        "llorch/kernels/weights/formats.py",
        "llorch/quant/codecs/tq2_0.py",
        "llorch/quant/types.py",
    ]
    assert '"type": "TQ2_0"' in run_python(WEIGHT_FORMAT, copy)


OPERATION = """
import numpy as np
from llorch import kernels
from llorch.kernels.buffers import Rows
from llorch.kernels.ops.scale import run_scale, scale
from llorch.kernels.program import Program
from tests.support import kernel_calls

x = np.random.default_rng(0).standard_normal((7, 40)).astype(np.float32)
rows, out, program = kernel_calls.guarded_rows(x), Rows.empty(7, 40), Program()
scale(program, 0, rows, 0.1, out)
kernel_calls.run(program, 7, n_threads=3)
np.testing.assert_array_equal(out.view(7), x * np.float32(0.1))
assert run_scale in kernels.all_units()
"""


def test_the_recipe_for_an_operation_makes_it_compute(copy: Path) -> None:
    assert len(set(apply_recipe("an operation", copy))) == 2
    run_python(OPERATION, copy)


ENDPOINT = """
from llorch.engine.service import EngineService
from llorch.server.app import create_app
from llorch.settings import Settings
from starlette.testclient import TestClient

service = EngineService(Settings())
with TestClient(create_app(service), base_url="http://localhost") as client:
    service.wait_until_ready(200)
    answer = client.post("/count", json={"prompt": "Once upon a time"})
    assert answer.json() == {"n_tokens": len(service.loaded.tokenizer.encode("Once upon a time"))}, answer.text
    assert client.post("/count", json={"promt": "x"}).status_code == 400
    assert "/count" in client.get("/openapi.json").json()["paths"]
"""


def test_the_recipe_for_an_endpoint_makes_it_answer(copy: Path) -> None:
    touched = apply_recipe("an endpoint", copy)
    assert set(touched) == {"llorch/server/app.py", "llorch/server/routes/count.py"}
    run_python(ENDPOINT, copy)


CPU_PATH = """
import numpy as np
from llorch.kernels import paths
from llorch.quant.types import Q8_0
from tests.support import kernel_calls, naive

assert paths.path() == "ssse3", paths.path()
assert not paths.has("avx2")
rng = np.random.default_rng(0)
weight = kernel_calls.tensor_of(rng.standard_normal((37, 96)).astype(np.float32), Q8_0)
for n_tokens in (1, 2, 3, 9):
    x = rng.standard_normal((n_tokens, 96)).astype(np.float32)
    for packed in (True, False):
        out = kernel_calls.matmul(weight, x, packed=packed)
        np.testing.assert_array_equal(naive.bits(out), naive.bits(naive.matmul_q8_0(weight, x)))
"""


@pytest.mark.slow
def test_the_recipe_for_a_cpu_path_gives_the_same_bits(copy: Path) -> None:
    probe = "from llorch.kernels import paths; print('ssse3' in paths._host_features())"
    if run_python(probe, copy).strip() != "True":
        pytest.skip("this CPU has no SSSE3")
    assert set(apply_recipe("a CPU path", copy)) == {"llorch/kernels/paths.py"}
    run_python(CPU_PATH, copy, LLORCH_CPU="ssse3")
