"""Faults planted in the real engine, to see that the validation names the stage where each of them sits.

Nothing is mocked: a fault is a changed configuration, changed weights, other instructions in the recorded
program, or a model that hands its engine something wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from llorch import kernels
from llorch.formats.source import open_source
from llorch.kernels import step as st
from llorch.kernels.instructions import ATTEND, SCORES, Activation, Matrix, Program, Rows, float_bits
from llorch.model.batch import Batch
from llorch.model.config import ModelConfig
from llorch.model.llama import Llama
from llorch.model.weights import Weights
from llorch.open_model import OpenModel
from llorch.quant.codecs import dequantize
from llorch.quant.tensor import Tensor
from llorch.quant.types import F32
from llorch.validation.dumps import Reference
from llorch.validation.records import sha256_of_file
from llorch.validation.subject import Subject, reference_tensors

Tensors = Mapping[str, Tensor]


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
    program: type[Program] = Program,
    llama: type[Llama] = Llama,
) -> Iterator[Subject]:
    """What `open_subject` opens, with something changed on the way."""
    kernels.compile_all()
    source = open_source(path)
    sha256 = sha256_of_file(path)
    right = ModelConfig.from_metadata(source.metadata)
    changed = tensors(reference_tensors(source.tensors, sha256, reference)[0])
    with patch("llorch.model.forward_pass.Program", program):
        checked = weights(Weights.from_tensors(right, changed))
        engine = llama(
            config(right),
            checked,
            n_threads=1,
            n_batch=len(reference.manifest.prompt.token_ids),
            residence="mapped",
        )
        with OpenModel(path.stem, source, right, checked, engine, None) as model:
            yield Subject(model, {})


# Weights and configuration


def larger_eps(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(config, norm_eps=1e-3)


def one_value_off(name: str) -> Callable[[Tensors], Tensors]:
    """The largest value of an F32 tensor, or the scale of one block of a Q8_0 one, times 1.01."""

    def change(tensors: Tensors) -> Tensors:
        tensor = tensors[name]
        data = tensor.data.copy()
        if tensor.type is F32:
            values = data.view(np.float32)
            values[np.abs(values).argmax()] *= np.float32(1.01)
        else:
            data[:2].view(np.float16)[0] *= np.float16(1.01)
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


# Other instructions


class FaultyProgram(Program):
    """Keeps the buffers of its own alive."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def zeros_like(self, rows: Rows) -> Rows:
        zeros = Rows.empty(len(rows.data), rows.n)
        self.kept.append(zeros)
        return zeros


class HalfSplitRope(FaultyProgram):
    """Pairs (i, i + head_dim / 2) are rotated: neighbours are made of them, rotated, and put back."""

    def rope(
        self, layer: int, q: Rows, k: Rows, n_head: int, n_head_kv: int, head_dim: int, n_rot: int
    ) -> None:
        turned = [self.zeros_like(q), self.zeros_like(k)]
        order = np.arange(head_dim).reshape(2, -1).T.ravel()
        for rows, out in zip((q, k), turned, strict=True):
            self._permute(layer, rows, out, order)
        super().rope(layer, turned[0], turned[1], n_head, n_head_kv, head_dim, n_rot)
        for rows, out in zip(turned, (q, k), strict=True):
            self._permute(layer, rows, out, np.argsort(order))

    def _permute(self, layer: int, rows: Rows, out: Rows, order: np.ndarray) -> None:
        head = np.eye(len(order), dtype=np.float32)[order]
        table = np.ascontiguousarray(np.kron(np.eye(rows.n // len(order), dtype=np.float32), head))
        self.kept.append(table)
        matrix = Matrix(F32.ggml_id, rows.n, rows.n, int(table.ctypes.data), False)
        self.matmul("permute", layer, matrix, Activation(rows), out)


class RotatedV(FaultyProgram):
    def store(self, layer: int, k: Rows, v: Rows, n_head_kv: int, head_dim: int) -> None:
        self.rope(layer, v, v, 0, n_head_kv, head_dim, head_dim)
        super().store(layer, k, v, n_head_kv, head_dim)


class WrongScale(FaultyProgram):
    """Scores divided by head_dim instead of its root."""

    def attend(self, layer: int, q: Rows, out: Rows, n_head: int, n_head_kv: int, head_dim: int) -> None:
        super().attend(layer, q, out, n_head, n_head_kv, head_dim)
        self._rescale(head_dim)

    def scores(self, layer: int, q: Rows, n_head: int, n_head_kv: int, head_dim: int) -> None:
        super().scores(layer, q, n_head, n_head_kv, head_dim)
        self._rescale(head_dim)

    def _rescale(self, head_dim: int) -> None:
        record = self._records[-1]
        right = float_bits(1.0 / np.sqrt(np.float32(head_dim)))
        assert record.count(right) == 1
        record[record.index(right)] = float_bits(1.0 / head_dim)


class PostNorm(FaultyProgram):
    """The residual stream goes into attention as it is, and is normalised after the addition."""

    def norm(
        self, layer: int, x: Rows, weight: Any, eps: float, out: Activation, outputs: bool = False
    ) -> None:
        if layer < 0:
            super().norm(layer, x, weight, eps, out, outputs)
            return
        self._late = weight, eps
        Program.add(self, "copy", layer, x, self.zeros_like(x), out.rows)
        if out.forms:
            self.prepare(layer, out)

    def add(self, label: str, layer: int, a: Rows, b: Rows, out: Rows) -> None:
        super().add(label, layer, a, b, out)
        super().norm(layer, out, *self._late, Activation(out))


class NoResidual(FaultyProgram):
    def add(self, label: str, layer: int, a: Rows, b: Rows, out: Rows) -> None:
        super().add(label, layer, a, self.zeros_like(b), out)


class UnrotatedWhenFused(FaultyProgram):
    """Only the fused program, the one that serves, forgets RoPE."""

    def rope_store(
        self, layer: int, q: Rows, k: Rows, v: Rows, n_head: int, n_head_kv: int, head_dim: int, n_rot: int
    ) -> None:
        self.store(layer, k, v, n_head_kv, head_dim)


class ForgetsDecodeRows(FaultyProgram):
    """Rows of a single-token step are not written to the cache."""

    is_forgetting = False

    def store(self, layer: int, k: Rows, v: Rows, n_head_kv: int, head_dim: int) -> None:
        if not ForgetsDecodeRows.is_forgetting:
            super().store(layer, k, v, n_head_kv, head_dim)


# Models that hand their engine something wrong


class ForgetfulLlama(Llama):
    """Writes its program anew for every pass, so that `ForgetsDecodeRows` can be another for each."""

    def forward(self, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        ForgetsDecodeRows.is_forgetting = batch.n_rows == 1
        self._observed = None
        return super().forward(batch, *args, **kwargs)


class LateLlama(Llama):
    """Every position is one too high."""

    def forward(self, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        return super().forward(dataclasses.replace(batch, positions=batch.positions + 1), *args, **kwargs)


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
    """Attention sees every row of the pass: it is told that all stand at the last position."""

    def __init__(self, team: Any) -> None:
        self._team = team

    def run(self, records: Any, first: int, last: int, step: Any, *rest: Any) -> None:
        for i in range(first, last):
            positions = step[st.POSITIONS]
            if records[i, 0] in (SCORES, ATTEND):
                all_last = np.full(step[st.N_ROWS], step[st.N_ROWS] - 1, np.int32)
                step[st.POSITIONS] = all_last.ctypes.data
            self._team.run(records, i, i + 1, step, *rest)
            step[st.POSITIONS] = positions

    def close(self) -> None:
        self._team.close()


class MasklessLlama(Llama):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._team: Any = MasklessTeam(self._team)
