"""Faults planted in the real engine, to see that the validation names the stage where each of them sits.

Nothing is mocked: a fault is a changed configuration, changed weights, other operations in the program of the
forward pass, or a model that hands its engine something wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from llorch.formats.source import open_source
from llorch.kernels import step as st
from llorch.kernels.buffers import Activation, Rows
from llorch.kernels.ops import add as add_op
from llorch.kernels.ops import attend as attend_op
from llorch.kernels.ops import matmul as matmul_op
from llorch.kernels.ops import norm as norm_op
from llorch.kernels.ops import prepare as prepare_op
from llorch.kernels.ops import rope as rope_op
from llorch.kernels.ops import softmax as softmax_op
from llorch.kernels.ops import store as store_op
from llorch.kernels.program import RUN, Program, float_bits
from llorch.kernels.weights.floats import F32_WEIGHTS
from llorch.kernels.weights.format import Matrix
from llorch.model.batch import Batch
from llorch.model.config import ModelConfig
from llorch.model.llama import Llama
from llorch.model.weights import Weights
from llorch.open_model import OpenModel
from llorch.quant.tensor import Tensor, dequantize
from llorch.quant.types import F32
from llorch.validation.dumps import Reference
from llorch.validation.subject import Subject, reference_tensors
from tests.support.random_blocks import HALVES

Tensors = Mapping[str, Tensor]
Operations = Mapping[str, Callable[..., None]]
"""Writers of operations that take the place of those of the same name in `llorch.model.forward_pass`."""


def unchanged(value: Any) -> Any:
    return value


@contextmanager
def faulty_subject(
    path: Path,
    reference: Reference,
    *,
    config: Callable[[ModelConfig], ModelConfig] = unchanged,
    tensors: Callable[[Tensors], Tensors] = unchanged,
    weights: Callable[[Weights], Weights] = unchanged,
    operations: Operations | None = None,
    llama: type[Llama] = Llama,
) -> Iterator[Subject]:
    """What `open_subject` opens, with something changed on the way."""
    source = open_source(path)
    _, sha256 = source.hashed()
    right = ModelConfig.from_metadata(source.metadata)
    changed = tensors(reference_tensors(source.tensors, sha256, reference)[0])
    used = weights(Weights.from_tensors(right, changed))
    with ExitStack() as stack:
        for name, write in (operations or {}).items():
            stack.enter_context(patch(f"llorch.model.forward_pass.{name}", write))
        engine = llama(
            config(right),
            used,
            n_threads=1,
            n_batch=len(reference.manifest.prompt.token_ids),
            residence="mapped",
            kv_type="f32",
        )
        model = stack.enter_context(OpenModel(path.stem, source, right, used, engine, None))
        yield Subject(model, {})


# Weights and configuration


def larger_eps(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(config, norm_eps=1e-3)


def one_value_off(name: str) -> Callable[[Tensors], Tensors]:
    """The largest value of an F32 tensor, or the scale of one block of a quantised one, times 1.01."""

    def change(tensors: Tensors) -> Tensors:
        tensor = tensors[name]
        data = tensor.data.copy()
        if tensor.type is F32:
            values = data.view(np.float32)
            values[np.abs(values).argmax()] *= np.float32(1.01)
        else:
            at = HALVES[tensor.type.name][0]
            data[at : at + 2].view(np.float16)[0] *= np.float16(1.01)
        return {**tensors, name: dataclasses.replace(tensor, data=data)}

    return change


def expanded_to_f32(tensors: Tensors) -> Tensors:
    """Products with unquantised activations: what an F32 weight is multiplied with."""
    return {
        name: Tensor(name, F32, tensor.shape, dequantize(tensor).reshape(-1).view(np.uint8))
        for name, tensor in tensors.items()
    }


def gate_and_up_swapped(weights: Weights) -> Weights:
    layers = tuple(
        dataclasses.replace(layer, ffn_gate=layer.ffn_up, ffn_up=layer.ffn_gate) for layer in weights.layers
    )
    return dataclasses.replace(weights, layers=layers)


def tied_head(weights: Weights) -> Weights:
    return dataclasses.replace(weights, output=weights.token_embd)


# Other operations


def _zeros_like(rows: Rows) -> Rows:
    return Rows.empty(len(rows.data), rows.n)


def _permute(p: Program, layer: int, rows: Rows, out: Rows, order: np.ndarray) -> None:
    """Components of every head in another order, by a product."""
    head = np.eye(len(order), dtype=np.float32)[order]
    table = np.ascontiguousarray(np.kron(np.eye(rows.n // len(order), dtype=np.float32), head))
    matrix = Matrix(F32_WEIGHTS, rows.n, rows.n, int(table.ctypes.data), False, table)
    matmul_op.matmul(p, "permute", layer, matrix, Activation(rows), out)


def half_split_rope(
    p: Program, layer: int, q: Rows, k: Rows, n_head: int, n_head_kv: int, head_dim: int, n_rot: int
) -> None:
    """Pairs (i, i + head_dim / 2) are rotated: neighbours are made of them, rotated, and put back."""
    turned = [_zeros_like(q), _zeros_like(k)]
    order = np.arange(head_dim).reshape(2, -1).T.ravel()
    for rows, out in zip((q, k), turned, strict=True):
        _permute(p, layer, rows, out, order)
    rope_op.rope(p, layer, turned[0], turned[1], n_head, n_head_kv, head_dim, n_rot)
    for rows, out in zip(turned, (q, k), strict=True):
        _permute(p, layer, rows, out, np.argsort(order))


def store_rotated_v(
    p: Program, layer: int, k: Rows, v: Rows, n_head_kv: int, head_dim: int, *rest: Any
) -> None:
    rope_op.rope(p, layer, v, v, 0, n_head_kv, head_dim, head_dim)
    store_op.store(p, layer, k, v, n_head_kv, head_dim, *rest)


def _with_scale_of_no_root(write: Callable[..., None]) -> Callable[..., None]:
    """`write`, with scores divided by head_dim instead of its root."""

    def written(p: Program, *args: Any) -> None:
        write(p, *args)
        head_dim = next(n for n in reversed(args) if isinstance(n, int))
        record = p._records[-1]
        right = float_bits(1.0 / np.sqrt(np.float32(head_dim)))
        assert record.count(right) == 1
        record[record.index(right)] = float_bits(1.0 / head_dim)

    return written


class PostNorm:
    """The residual stream goes into attention as it is, and is normalised after the addition."""

    def norm(
        self, p: Program, layer: int, x: Rows, weight: Any, eps: float, out: Activation, outputs: bool = False
    ) -> None:
        if layer < 0:
            norm_op.norm(p, layer, x, weight, eps, out, outputs)
            return
        self._late = weight, eps
        add_op.add(p, layer, x, _zeros_like(x), out.rows)
        prepare_op.prepare(p, layer, out)

    def add(self, p: Program, layer: int, a: Rows, b: Rows, out: Rows) -> None:
        add_op.add(p, layer, a, b, out)
        norm_op.norm(p, layer, out, *self._late, Activation(out))


def add_to_nothing(p: Program, layer: int, a: Rows, b: Rows, out: Rows) -> None:
    add_op.add(p, layer, a, _zeros_like(b), out)


def store_without_rope(
    p: Program, layer: int, q: Rows, k: Rows, v: Rows, n_head: int, n_head_kv: int, head_dim: int, n_rot: int,
    *rest: Any,
) -> None:  # fmt: skip
    """Only the fused program, the one that serves, forgets RoPE."""
    store_op.store(p, layer, k, v, n_head_kv, head_dim, *rest)


class ForgetsDecodeRows:
    """Rows of a single-token step are not written to the cache."""

    is_forgetting = False

    @staticmethod
    def store(*args: Any) -> None:
        if not ForgetsDecodeRows.is_forgetting:
            store_op.store(*args)


_post_norm = PostNorm()
POST_NORM: Operations = {"norm": _post_norm.norm, "add": _post_norm.add}
HALF_SPLIT_ROPE: Operations = {"rope": half_split_rope}
ROTATED_V: Operations = {"store": store_rotated_v}
WRONG_SCALE: Operations = {
    "attend": _with_scale_of_no_root(attend_op.attend),
    "softmax_maximum": _with_scale_of_no_root(softmax_op.softmax_maximum),
}
NO_RESIDUAL: Operations = {"add": add_to_nothing}
UNROTATED_WHEN_FUSED: Operations = {"rope_store": store_without_rope}
FORGETS_DECODE_ROWS: Operations = {"store": ForgetsDecodeRows.store}


# Models that hand their engine something wrong


class ForgetfulLlama(Llama):
    """Writes its program anew for every pass, so that `ForgetsDecodeRows` can be another for each."""

    def forward(self, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        ForgetsDecodeRows.is_forgetting = batch.n_rows == 1
        self._programs.clear()
        return super().forward(batch, *args, **kwargs)


class LateLlama(Llama):
    """Every position is one too high."""

    def forward(self, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        later = Batch(batch.rows.copy(), batch.n_rows, batch.block_tables)
        later.positions[:] += 1
        return super().forward(later, *args, **kwargs)


class RestlessLlama(Llama):
    """In every fiftieth pass, one logit is off by its last bit."""

    n_passes = 0

    def forward(self, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        logits = super().forward(batch, *args, **kwargs)
        self.n_passes += 1
        if self.n_passes % 50 == 0:
            logits[0, 0] = np.nextafter(logits[0, 0], np.float32(np.inf))
        return logits


class MasklessTeam:
    """Attention sees every row of the pass: it is told that all are at the last position."""

    def __init__(self, team: Any, attention: set[int]) -> None:
        self._team, self._attention = team, attention

    def run(self, records: Any, first: int, last: int, step: Any, *rest: Any) -> None:
        for i in range(first, last):
            positions = step[st.POSITIONS]
            if records[i, RUN] in self._attention:
                all_last = np.full(step[st.N_ROWS], step[st.N_ROWS] - 1, np.int32)
                step[st.POSITIONS] = all_last.ctypes.data
            self._team.run(records, i, i + 1, step, *rest)
            step[st.POSITIONS] = positions

    def close(self) -> None:
        self._team.close()


class MasklessLlama(Llama):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        observed = self._written("f32", observed=True)
        labels = observed.program.labels
        attention = {
            int(observed.records[i, RUN])
            for i, (name, _) in enumerate(labels)
            if name in ("attend", "scores", "values") or name.startswith("softmax_")
        }
        self._team: Any = MasklessTeam(self._team, attention)
