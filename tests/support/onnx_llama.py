"""A tiny random Llama as an ONNX graph of fused operations, as the ONNX Runtime GenAI builder writes it; NumPy only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support import onnx_writer as w

N_VOCAB, N_EMBD, N_HEAD, N_HEAD_KV, WIDTH, N_FF, N_CTX, EPSILON, THETA = 64, 16, 2, 1, 8, 24, 32, 1e-5, 1e4
MICROSOFT = "com.microsoft"
DATA = "model.onnx.data"

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": N_VOCAB,
    "hidden_size": N_EMBD,
    "num_attention_heads": N_HEAD,
    "num_key_value_heads": N_HEAD_KV,
    "num_hidden_layers": 2,
    "intermediate_size": N_FF,
    "max_position_embeddings": 2 * N_CTX,
    "rms_norm_eps": EPSILON,
    "rope_theta": THETA,
}
"""The same model as `config.json` has it, of more positions than the graph's tables."""


class _Weights:
    """Random tensors, and where they lie."""

    def __init__(self, dtype: str, is_external: bool, checksum: str | None) -> None:
        self._rng, self._dtype = np.random.default_rng(0), np.dtype(dtype)
        self._is_external, self._checksum = is_external, checksum
        self.tensors: list[bytes] = []
        self.data = bytearray()
        self.values: dict[str, NDArray[np.generic]] = {}

    def add(self, name: str, *shape: int, scale: float = 0.2, mean: float = 0.0) -> str:
        """Make a tensor; its name."""
        self.put(name, (self._rng.standard_normal(shape) * scale + mean).astype(self._dtype))
        return name

    def put(self, name: str, values: NDArray[np.generic]) -> None:
        """Take a tensor; matrices lie outside if any do."""
        self.values[name] = values
        if not self._is_external or values.ndim < 2:
            self.tensors.append(w.tensor(name, values))
            return
        where = {"location": DATA, "offset": str(len(self.data)), "length": str(values.nbytes)}
        if self._checksum is not None:
            where["checksum"] = self._checksum
        self.tensors.append(
            w.tensor(name, dims=values.shape, dtype=w.TYPE_NUMBERS[values.dtype.name], external=where)
        )
        self.data += values.tobytes()


def llama_graph(
    *,
    n_layers: int = 2,
    dtype: str = "float32",
    is_external: bool = False,
    checksum: str | None = None,
    is_tied: bool = False,
) -> tuple[bytes, bytes, dict[str, NDArray[np.generic]]]:
    """The file, its external data, and the tensors by name in the graph; matrices are (n_in, n_out)."""
    weights = _Weights(dtype, is_external, checksum)
    angles = np.arange(N_CTX)[:, None] * THETA ** (-np.arange(0, WIDTH, 2) / WIDTH)
    for name, table in (("cos_cache", np.cos(angles)), ("sin_cache", np.sin(angles))):
        weights.put(name, table.astype(dtype))
    nodes = [w.node("Gather", ["embed", "input_ids"], ["h0"], name="embed")]
    if is_tied:
        perm = w.attribute("perm", [1, 0])
        nodes.insert(0, w.node("Transpose", ["lm_head"], ["embed"], perm, name="turn"))
    else:
        weights.add("embed", N_VOCAB, N_EMBD)
    for i in range(n_layers):
        nodes += _layer(weights, i)
    nodes.append(_norm(weights, "final", f"h{n_layers}", "normed"))
    weights.add("lm_head", N_EMBD, N_VOCAB)
    nodes.append(w.node("MatMul", ["normed", "lm_head"], ["logits"], name="lm_head"))
    kind = w.TYPE_NUMBERS[dtype]
    inputs = [w.value_info(name, 7, ["batch", "n"]) for name in ("input_ids", "attention_mask")]
    pasts = [f"past.{i}.{part}" for i in range(n_layers) for part in ("key", "value")]
    inputs += [w.value_info(name, kind, ["batch", N_HEAD_KV, "past", WIDTH]) for name in pasts]
    outputs = [w.value_info("logits", kind, ["batch", "n", N_VOCAB])]
    outputs += [w.value_info(name.replace("past", "present"), kind, None) for name in pasts]
    content = w.graph(nodes, weights.tensors, inputs, outputs)
    return w.model(content, opsets={"": 17, MICROSOFT: 1}), bytes(weights.data), weights.values


def _norm(weights: _Weights, name: str, value: str, output: str) -> bytes:
    weight = weights.add(f"{name}.norm", N_EMBD, mean=1.0)
    epsilon = w.attribute("epsilon", EPSILON)
    return w.node("SimplifiedLayerNormalization", [value, weight], [output], epsilon, name=f"{name}.norm")


def _layer(weights: _Weights, i: int) -> list[bytes]:
    def product(value: str, name: str, n_in: int, n_out: int) -> bytes:
        full = f"l{i}.{name}"
        return w.node("MatMul", [value, weights.add(f"{full}.weight", n_in, n_out)], [full], name=full)

    attention = w.node(
        "GroupQueryAttention",
        [
            f"l{i}.q",
            f"l{i}.k",
            f"l{i}.v",
            f"past.{i}.key",
            f"past.{i}.value",
            "",
            "",
            "cos_cache",
            "sin_cache",
        ],
        [f"l{i}.a", f"present.{i}.key", f"present.{i}.value"],
        *(
            w.attribute(*pair)
            for pair in (("num_heads", N_HEAD), ("kv_num_heads", N_HEAD_KV), ("do_rotary", 1))
        ),
        name=f"l{i}.attention",
        domain=MICROSOFT,
    )
    return [
        _norm(weights, f"l{i}.in", f"h{i}", f"l{i}.n"),
        product(f"l{i}.n", "q", N_EMBD, N_HEAD * WIDTH),
        product(f"l{i}.n", "k", N_EMBD, N_HEAD_KV * WIDTH),
        product(f"l{i}.n", "v", N_EMBD, N_HEAD_KV * WIDTH),
        attention,
        product(f"l{i}.a", "o", N_HEAD * WIDTH, N_EMBD),
        w.node("Add", [f"h{i}", f"l{i}.o"], [f"l{i}.r"]),
        _norm(weights, f"l{i}.post", f"l{i}.r", f"l{i}.m"),
        product(f"l{i}.m", "gate", N_EMBD, N_FF),
        product(f"l{i}.m", "up", N_EMBD, N_FF),
        w.node("Sigmoid", [f"l{i}.gate"], [f"l{i}.s"]),
        w.node("Mul", [f"l{i}.gate", f"l{i}.s"], [f"l{i}.silu"]),
        w.node("Mul", [f"l{i}.silu", f"l{i}.up"], [f"l{i}.product"]),
        product(f"l{i}.product", "down", N_FF, N_EMBD),
        w.node("Add", [f"l{i}.r", f"l{i}.down"], [f"h{i + 1}"]),
    ]


def write_llama(path: Path, *, is_external: bool = False, **options: Any) -> Path:
    """Write the graph, and its external data beside it; `options` are `llama_graph`'s."""
    content, data, _ = llama_graph(is_external=is_external, **options)
    if is_external:
        w.write(path.parent / DATA, data)
    return w.write(path, content)
