"""Every stage of a Llama forward pass, recomputed from the reference's own inputs in float64 NumPy.

Weights are read and expanded by the `gguf` package, so nothing of llorch or llama.cpp computes here. Only
what llama.cpp does on purpose is copied: the RMSNorm's order of roundings, activations rounded to what the
weight's type asks for, and rotation angles from a float32 recurrence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from llorch.validation.dumps import Pass, Reference

F64 = NDArray[np.float64]
F32 = np.float32


class NaiveModel:
    """Weights and the few constants of one GGUF file."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.eps = F32(reader.fields["llama.attention.layer_norm_rms_epsilon"].contents())
        self.base = float(reader.fields["llama.rope.freq_base"].contents())

    def weight(self, name: str) -> NDArray[np.float32]:
        """One tensor, float32 [..., n_in]."""
        tensor = self.tensors[name]
        return gguf.dequantize(tensor.data, tensor.tensor_type).reshape(
            [int(n) for n in reversed(tensor.shape)]
        )

    def matmul(self, x: NDArray[np.float32], name: str) -> F64:
        """x [n, n_in] times a weight [n_out, n_in], after rounding x to what the weight's type asks for."""
        kind = self.tensors[name].tensor_type
        return round_like(x, kind).astype(np.float64) @ self.weight(name).astype(np.float64).T

    def norm(self, x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        """RMSNorm of x [n, n_embd] times its weight, rounded in llama.cpp's places."""
        mean = ((x * x).astype(np.float64).sum(-1, keepdims=True) / x.shape[-1]).astype(F32)
        return x * (F32(1) / np.sqrt(mean + self.eps)) * self.weight(name)

    def rope(self, x: NDArray[np.float32], positions: NDArray[np.int64]) -> F64:
        """x [n, heads, head_dim] with neighbouring pairs rotated."""
        n_pairs = x.shape[-1] // 2
        factors = (
            self.weight("rope_freqs.weight") if "rope_freqs.weight" in self.tensors else np.ones(n_pairs, F32)
        )
        step = F32(self.base ** (-2.0 / x.shape[-1]))
        theta, angles = positions.astype(F32), np.empty((len(positions), n_pairs), F32)
        for i in range(n_pairs):
            angles[:, i] = theta / factors[i]
            theta = theta * step
        rotor = np.exp(1j * angles.astype(np.float64))[:, None, :]
        turned = (x[..., 0::2] + 1j * x[..., 1::2].astype(np.float64)) * rotor
        return np.stack((turned.real, turned.imag), -1).reshape(x.shape)


def round_like(x: NDArray[np.float32], kind: Any) -> NDArray[np.float32]:
    """Activations as llama.cpp's CPU code sees them in front of a weight of this type."""
    if kind == gguf.GGMLQuantizationType.Q8_0:
        blocks = x.reshape(*x.shape[:-1], -1, 32)
        largest = np.abs(blocks).max(-1, keepdims=True)
        inverse = np.divide(F32(127), largest, out=np.zeros_like(largest), where=largest > 0)
        scale = (largest / F32(127)).astype(np.float16).astype(F32)
        return (np.rint(blocks * inverse) * scale).reshape(x.shape)
    if kind in (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16):
        return gguf.dequantize(gguf.quantize(np.ascontiguousarray(x), kind), kind).reshape(x.shape)
    return x


def recompute(model: NaiveModel, reference: Reference) -> Iterator[tuple[Pass, str, int, NDArray[Any]]]:
    """Yield (pass, stage, layer, expected values) for every stage; the dump must hold all of them."""
    sizes = reference.manifest.model.sizes
    group = sizes.n_head // sizes.n_head_kv
    keys: dict[int, list[Any]] = {}
    values: dict[int, list[Any]] = {}
    for run in reference.passes():

        def given(stage: str, layer: int = -1, run: Pass = run) -> NDArray[np.float32]:
            return reference.array(run, stage, layer)

        n = len(run.token_ids)
        positions = run.position + np.arange(n)
        yield run, "inp_embd", -1, model.weight("token_embd.weight")[list(run.token_ids)]
        x = given("inp_embd")
        for layer in range(sizes.n_layer):
            weights = f"blk.{layer}."
            yield run, "attn_norm", layer, model.norm(x, f"{weights}attn_norm.weight")
            for stage, name in (("Qcur", "attn_q"), ("Kcur", "attn_k"), ("Vcur", "attn_v")):
                product = model.matmul(given("attn_norm", layer), f"{weights}{name}.weight")
                yield run, stage, layer, product.reshape(n, -1, sizes.head_dim)
            yield run, "Qcur_rope", layer, model.rope(given("Qcur", layer), positions)
            yield run, "Kcur_rope", layer, model.rope(given("Kcur", layer), positions)
            keys.setdefault(layer, []).append(given("Kcur_rope", layer))
            values.setdefault(layer, []).append(given("Vcur", layer))
            k = np.repeat(np.concatenate(keys[layer]), group, axis=1).astype(np.float64)
            v = np.repeat(np.concatenate(values[layer]), group, axis=1).astype(np.float64)
            yield run, "kq", layer, np.einsum("qhd,khd->hqk", given("Qcur_rope", layer), k)
            scores = given("kq", layer).astype(np.float64) / np.sqrt(sizes.head_dim)
            scores = np.where(np.arange(run.n_kv) <= positions[:, None], scores, -np.inf)
            weight = np.exp(scores - scores.max(-1, keepdims=True))
            yield run, "kq_soft_max", layer, weight / weight.sum(-1, keepdims=True)
            mixed = np.einsum("hqk,khd->qhd", given("kq_soft_max", layer), v)
            yield run, "kqv_out", layer, mixed.reshape(n, -1)
            yield (
                run,
                "attn_out",
                layer,
                model.matmul(given("kqv_out", layer), f"{weights}attn_output.weight"),
            )
            yield run, "ffn_inp", layer, given("attn_out", layer) + x
            yield run, "ffn_norm", layer, model.norm(given("ffn_inp", layer), f"{weights}ffn_norm.weight")
            for name in ("ffn_gate", "ffn_up"):
                yield run, name, layer, model.matmul(given("ffn_norm", layer), f"{weights}{name}.weight")
            gate = given("ffn_gate", layer).astype(np.float64)
            yield run, "ffn_swiglu", layer, gate / (1 + np.exp(-gate)) * given("ffn_up", layer)
            yield run, "ffn_out", layer, model.matmul(given("ffn_swiglu", layer), f"{weights}ffn_down.weight")
            yield run, "l_out", layer, given("ffn_out", layer) + given("ffn_inp", layer)
            x = given("l_out", layer)
        yield run, "result_norm", -1, model.norm(x, "output_norm.weight")
        head = "output.weight" if "output.weight" in model.tensors else "token_embd.weight"
        yield run, "result_output", -1, model.matmul(given("result_norm"), head)
