"""Rotations far out in a long context equal llama.cpp's in every bit, whatever the scaling. Needs llama-cpp-python."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.formats.source import open_source
from llorch.model.config import ModelConfig
from llorch.model.rope_table import rope_table
from tests.support import kernel_calls
from tests.support.naive import bits
from tests.support.size_table import rope_keys
from tests.support.tiny_models import write_tiny_llama

pytestmark = [
    pytest.mark.slow,
    pytest.mark.reference,
    pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed"),
]

HEAD_DIM, N_CTX_TRAIN, N_ROWS = 128, 1 << 20, 3


def rotated_by_llama_cpp(path: Path, position: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries of the first layer from `position` on, before and after RoPE: float32 (N_ROWS, n_head, HEAD_DIM)."""
    from tools.reference.ggml_tensor import GgmlTensor
    from tools.reference.llama_cpp_eval import LlamaCppModel

    seen: dict[str, np.ndarray] = {}

    def watch(node: GgmlTensor, ask: bool) -> bool:
        if not opened or node.name != b"Qcur-0" or opened[0].ggml.op_name(node) != "ROPE":
            return False
        if not ask:
            seen["after"] = opened[0].ggml.read_f32(node)
            seen["before"] = opened[0].ggml.read_f32(node.src[0].contents)
        return True

    opened: list[LlamaCppModel] = []
    with LlamaCppModel(path, 64, watch) as model:
        opened.append(model)
        model.n_ctx = N_CTX_TRAIN  # of cells there are fewer, but only three are filled
        model.decode([5, 6, 7], position, all_rows=True)
    before, after = (seen[key].reshape(N_ROWS, -1, HEAD_DIM) for key in ("before", "after"))
    return before, after


@pytest.mark.parametrize("seed", range(12))
def test_scaled_rotations_far_out_equal_llama_cpps_in_every_bit(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    scaling: dict[str, Any] = {
        "type": "linear" if seed % 4 == 0 else "yarn",
        "factor": float(rng.choice([0.5, 1.5, 3.0, 4.0, 7.3, 16.0, 40.0])),
        "freq_base": float(rng.choice([1e4, 123456.0, 5e5, 1e6])),
        "original_context_length": int(rng.choice([333, 2048, 8192, 32768])),
        "attn_factor": float(rng.choice([0.7, 1.0, 1.3])),
    }
    path, position = tmp_path / "far.gguf", int(rng.integers(1000, N_CTX_TRAIN - N_ROWS))
    keys = rope_keys(**scaling)
    write_tiny_llama(path, type="F32", n_embd=256, n_head=2, n_ctx_train=N_CTX_TRAIN, overrides=keys)
    with closing(open_source(path)) as source:
        table = rope_table(ModelConfig.from_metadata(source.metadata), None, position, position + N_ROWS)
    before, after = rotated_by_llama_cpp(path, position)
    ours = kernel_calls.rope(before, HEAD_DIM, table, list(range(N_ROWS)))
    np.testing.assert_array_equal(bits(ours), bits(after))
