"""Computes the same things on whatever kernel path this process runs, and prints them as JSON.

    LLORCH_CPU=avx2 python -m tests.support.path_worker TYPE,... MODEL...

`exact` must be equal on all paths: products of the types, elementwise kernels, attention, logits, as hashes of bits.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import paths
from llorch.kernels.activations.q8_k import Q8_K
from llorch.quant.tensor import Placement
from llorch.quant.types import BF16, SUPPORTED, QuantType
from tests.support import kernel_calls, naive, naive_int8_rows, naive_rows
from tests.support.extreme_products import extreme_product
from tests.support.random_blocks import random_blocks
from tests.support.small_models import Run, open_model

N_GREEDY = 40
N_THREADS = 1 if os.environ.get("TEST_EMULATED_CPU") else 2
"""The emulated AMX registers are for one thread."""
BLOCKS_OF_256 = ((1, 256), (17, 768), (83, 512))
"""Rows and columns of products of K types."""


def digest(*arrays: NDArray[Any]) -> str:
    """Hash of the bits of arrays."""
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()[:16]


def products(quant_type: QuantType) -> list[NDArray[np.float32]]:
    """Products of all kinds of sizes; Q8_0 ones are compared with the twin, too."""
    results = []
    for n_tokens in (*range(1, 10), 13, 16, 27):
        for n_out, n_in in ((1, 32), (17, 96), (83, 352)) if quant_type.block_size < 256 else BLOCKS_OF_256:
            rng = np.random.default_rng([n_tokens, n_out, n_in])
            weight = random_blocks(quant_type, (n_out, n_in), rng)
            x = rng.standard_normal((n_tokens, n_in)).astype(np.float32)
            onto = rng.standard_normal((n_tokens, n_out)).astype(np.float32)
            for packed in (True, False):
                out = kernel_calls.matmul(weight, x, packed=packed, n_threads=N_THREADS)
                results += [out, kernel_calls.matmul(weight, x, packed=packed, onto=onto)]
                if quant_type.name == "Q8_0":
                    np.testing.assert_array_equal(naive.bits(out), naive.bits(naive.matmul_q8_0(weight, x)))
    return results


def extreme() -> NDArray[np.float32]:
    """The product whose blocks would overflow int16 sums, compared with its exact result too."""
    weight, x, expected = extreme_product(7)
    out = kernel_calls.matmul(weight, x)
    np.testing.assert_array_equal(out, expected)
    return out


def int8_rows() -> list[NDArray[np.float32]]:
    """Products of int8 weights with a scale a row, compared with the twin too."""
    results = []
    for n_tokens in (1, 2, 3, 5, 8, 9, 16, 27):
        for n_out, n_in in ((1, 32), (17, 96), (83, 352)):
            rng = np.random.default_rng([n_tokens, n_out, n_in])
            order = rng.permutation(n_out + 2)[:n_out].astype(np.int32)
            weight = naive_int8_rows.random_tensor(n_out, n_in, rng, Placement(order, n_out + 2))
            x = rng.standard_normal((n_tokens, n_in)).astype(np.float32)
            x[0] = -1.0  # -128 everywhere
            for packed in (True, False):
                out = kernel_calls.matmul(weight, x, packed=packed, n_threads=N_THREADS)
                np.testing.assert_array_equal(naive.bits(out), naive.bits(naive_int8_rows.matmul(weight, x)))
                results.append(out)
    return results


def denormals() -> NDArray[np.float32]:
    """A product of BF16 weights around the smallest normal number, compared with the twin too."""
    rng = np.random.default_rng(0)
    w, x = (rng.standard_normal((9, 77)).astype(np.float32) * np.float32(1e-19) for _ in range(2))
    w[:, ::3], x[:, ::5] = 1e-40, 1e-39
    weight = kernel_calls.tensor_of(w, BF16)
    out = kernel_calls.matmul(weight, x)
    np.testing.assert_array_equal(naive.bits(out), naive.bits(naive.float_product(weight, x)))
    return out


def elementwise() -> dict[str, str]:
    """Hashes of what norm, SwiGLU, the exponential and the activation forms give."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((5, 736)) * 4).astype(np.float32)
    weight = rng.standard_normal(736).astype(np.float32)
    normed = kernel_calls.rms_norm(x, weight, 1e-5)
    np.testing.assert_array_equal(
        naive.bits(normed.rows.view(5)), naive.bits(naive.rms_norm(x, weight, 1e-5))
    )
    gated = kernel_calls.swiglu(x, x[::-1].copy()).rows.view(5)
    np.testing.assert_array_equal(naive.bits(gated), naive.bits(naive_rows.swiglu(x, x[::-1])))
    every_form = (kernel_calls.Q8_0_FORM, kernel_calls.F16_FORM, kernel_calls.BF16_FORM)
    forms = kernel_calls.prepare(x, *every_form)
    blocks = kernel_calls.prepare(np.ascontiguousarray(x[:, :512]), Q8_K).forms[Q8_K].arrays
    exponentials = np.empty(100_000, np.float32)
    kernel_calls.exp_array(rng.uniform(-90, 90, 100_000).astype(np.float32), exponentials)
    table = rng.standard_normal((9, 20, 2)).astype(np.float32)
    return {
        "rms_norm": digest(normed.rows.view(5)),
        "swiglu": digest(gated),
        "exp": digest(exponentials),
        "q8_0": digest(*kernel_calls.q8_0_of(forms)[:2]),
        "q8_k": digest(*blocks[:4]),  # where sums start depends on the path
        "f16": digest(kernel_calls.rounded_of(forms, kernel_calls.F16_FORM)),
        "bf16": digest(kernel_calls.rounded_of(forms, kernel_calls.BF16_FORM)),
        "rope": digest(kernel_calls.rope(x[:, :160].reshape(5, 4, 40).copy(), 40, table, [0, 8, 3, 1, 2])),
    }


def model(path: Path) -> tuple[dict[str, str], dict[str, list[int]]]:
    """Hashes of logits with both caches, and greedy tokens."""
    hashes, greedy = {}, {}
    with open_model(path, n_threads=N_THREADS) as opened:
        token_ids = np.random.default_rng(0).integers(3, opened.config.n_vocab, 50).tolist()
        for kv_type in ("f32", "f16"):
            run = Run(opened.llama, kv_type=kv_type)
            logits = run.prefill(token_ids)
            made = [int(logits[-1].argmax())]
            while len(made) < N_GREEDY:
                made.append(int(run.forward([(0, len(token_ids) + len(made) - 1, made[-1])])[0].argmax()))
            hashes[f"{path.stem} {kv_type}"] = digest(logits)
            greedy[f"{path.stem} {kv_type}"] = made
    return hashes, greedy


def main(types: str, *models: str) -> None:
    wanted = [quant for quant in SUPPORTED.values() if quant.name in types.split(",")]
    exact = {f"matmul {t.name}": digest(*products(t)) for t in wanted}
    exact |= {
        "int8 rows": digest(*int8_rows()),
        "extreme": digest(extreme()),
        "denormals": digest(denormals()),
    } | elementwise()
    greedy: dict[str, list[int]] = {}
    for path in map(Path, models):
        hashes, made = model(path)
        exact |= hashes
        greedy |= made
    print(json.dumps({"path": paths.path(), "exact": exact, "greedy": greedy}))


if __name__ == "__main__":
    main(*sys.argv[1:])
