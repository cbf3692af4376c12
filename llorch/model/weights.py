"""The weights a configuration implies: exactly these names, types and shapes, checked before any kernel runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from llorch.errors import ModelError
from llorch.model.config import ModelConfig
from llorch.quant.tensor import Tensor, dequantize

M = TypeVar("M")
N = TypeVar("N")

_IGNORED_SUFFIXES = ("attn_rot_embd.weight", "attn.rotary_emb.inv_freq")
"""Precomputed tables that old converters left in files; llama.cpp skips them too."""

OPTIONAL_WEIGHTS = ("output.weight", "rope_freqs.weight")
"""Tensors a file may lack: its head is then the embedding table, its RoPE frequencies are plain."""

BIAS = ".bias"
"""End of the names of biases; a file may lack any of them."""


Shapes = dict[str, tuple[int, ...]]


def expected_shapes(config: ModelConfig) -> Shapes:
    """Shape of every tensor that a configuration implies, `OPTIONAL_WEIGHTS` and biases included, by GGUF name."""
    of_layer = _layer_shapes(config)
    return _outer_shapes(config) | {
        f"blk.{i}.{name}": shape for i in range(config.n_layer) for name, shape in of_layer.items()
    }


def _outer_shapes(c: ModelConfig) -> Shapes:
    """Shapes of the tensors outside the layers."""
    return {
        "token_embd.weight": (c.n_vocab, c.n_embd),
        "output_norm.weight": (c.n_embd,),
        "output.weight": (c.n_vocab, c.n_embd),
        "rope_freqs.weight": (c.n_rot // 2,),
    }


def _layer_shapes(c: ModelConfig) -> Shapes:
    """Shapes of the tensors of each layer, by their names without the layer."""
    matrices: Shapes = {
        "attn_q.weight": (c.n_embd_q, c.n_embd),
        "attn_k.weight": (c.n_embd_kv, c.n_embd),
        "attn_v.weight": (c.n_embd_kv, c.n_embd),
        "attn_output.weight": (c.n_embd, c.n_embd_q),
        "ffn_gate.weight": (c.n_ff, c.n_embd),
        "ffn_up.weight": (c.n_ff, c.n_embd),
        "ffn_down.weight": (c.n_embd, c.n_ff),
    }
    norms: Shapes = {"attn_norm.weight": (c.n_embd,), "ffn_norm.weight": (c.n_embd,)}
    biases: Shapes = {name.removesuffix(".weight") + BIAS: shape[:1] for name, shape in matrices.items()}
    return norms | matrices | biases


@dataclass(frozen=True, slots=True)
class Layer(Generic[M]):
    """The nine weights of one transformer block, by GGUF name, and the biases that the file has.

    Its matrices, `M`, are tensors of a file, or what the kernels take.

    Attributes:
        biases: float32 (n_out,) by the name of the matrix whose product they are added to.
    """

    attn_norm: NDArray[np.float32]
    attn_q: M
    attn_k: M
    attn_v: M
    attn_output: M
    ffn_norm: NDArray[np.float32]
    ffn_gate: M
    ffn_up: M
    ffn_down: M
    biases: Mapping[str, NDArray[np.float32]]

    def matrices(self) -> tuple[M, ...]:
        """The seven matrices in the order they are used."""
        attention = self.attn_q, self.attn_k, self.attn_v, self.attn_output
        return *attention, self.ffn_gate, self.ffn_up, self.ffn_down

    def placed(self, place: Callable[[M], N]) -> Layer[N]:
        """The same with what `place` makes of the matrices, which it gets in their order."""
        q, k, v, output, gate, up, down = map(place, self.matrices())
        return Layer(self.attn_norm, q, k, v, output, self.ffn_norm, gate, up, down, self.biases)


LayerWeights: TypeAlias = Layer[Tensor]


@dataclass(frozen=True, slots=True)
class Weights:
    """All weights of a model; norms as float32 copies, matrices as views on the file.

    Attributes:
        token_embd: (n_vocab, n_embd).
        layers: one entry per transformer block.
        output_norm: float32 (n_embd,).
        output: (n_vocab, n_embd); `token_embd` itself when the file ties them.
        rope_freqs: float32 (n_rot / 2,) divisors of RoPE's frequencies (Llama 3), or None.
    """

    token_embd: Tensor
    layers: tuple[LayerWeights, ...]
    output_norm: NDArray[np.float32]
    output: Tensor
    rope_freqs: NDArray[np.float32] | None

    @property
    def is_tied(self) -> bool:
        """Whether the output matrix is the embedding table."""
        return self.output is self.token_embd

    def matrices(self) -> Iterator[Tensor]:
        """Every matrix once, in the order of use; the embedding table only when it is also the output."""
        for layer in self.layers:
            yield from layer.matrices()
        yield self.output

    @classmethod
    def from_tensors(cls, config: ModelConfig, tensors: Mapping[str, Tensor]) -> Weights:
        """Pick and check the tensors `config` implies.

        Raises:
            ModelError: a tensor is missing, has another shape, or is not part of the architecture.
        """
        pick, outer, inner = _Picker(tensors), _outer_shapes(config), _layer_shapes(config)
        token_embd = pick.matrix("token_embd.weight", outer)
        # Not by `expected_shapes`: metadata may claim millions of layers, and the first that is missing ends it.
        layers = tuple(_layer(pick, inner, f"blk.{i}.") for i in range(config.n_layer))
        output_norm = pick.vector("output_norm.weight", outer)
        output = pick.matrix("output.weight", outer) if pick.has("output.weight") else token_embd
        rope_freqs = None
        if pick.has("rope_freqs.weight"):
            rope_freqs = pick.vector("rope_freqs.weight", outer)
            if not (rope_freqs > 0).all():
                raise ModelError("tensor 'rope_freqs.weight': expected numbers above 0")
        pick.nothing_left()
        return cls(token_embd, layers, output_norm, output, rope_freqs)


class _Picker:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._used: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self._tensors

    def matrix(self, name: str, shapes: Shapes, prefix: str = "") -> Tensor:
        return self._pick(prefix + name, shapes[name])

    def vector(self, name: str, shapes: Shapes, prefix: str = "") -> NDArray[np.float32]:
        tensor = self._pick(prefix + name, shapes[name])
        values = np.ascontiguousarray(dequantize(tensor), np.float32)
        if not np.isfinite(values).all():
            raise ModelError(
                f"tensor {tensor.name!r}: value {int(np.argmin(np.isfinite(values)))} is not a finite number"
            )
        return values

    def _pick(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelError(f"tensor {name!r} is missing: the metadata implies it with shape {shape}")
        if tensor.shape != shape:
            raise ModelError(f"tensor {name!r}: shape {tensor.shape}, but the metadata implies {shape}")
        self._used.add(name)
        return tensor

    def nothing_left(self) -> None:
        for name in self._tensors:
            if name not in self._used and not name.endswith(_IGNORED_SUFFIXES):
                raise ModelError(f"tensor {name!r} is not part of a llama model as the metadata describes it")


def _layer(pick: _Picker, shapes: Shapes, prefix: str) -> LayerWeights:
    return Layer(
        attn_norm=pick.vector("attn_norm.weight", shapes, prefix),
        attn_q=pick.matrix("attn_q.weight", shapes, prefix),
        attn_k=pick.matrix("attn_k.weight", shapes, prefix),
        attn_v=pick.matrix("attn_v.weight", shapes, prefix),
        attn_output=pick.matrix("attn_output.weight", shapes, prefix),
        ffn_norm=pick.vector("ffn_norm.weight", shapes, prefix),
        ffn_gate=pick.matrix("ffn_gate.weight", shapes, prefix),
        ffn_up=pick.matrix("ffn_up.weight", shapes, prefix),
        ffn_down=pick.matrix("ffn_down.weight", shapes, prefix),
        biases={
            name.removesuffix(BIAS): pick.vector(name, shapes, prefix)
            for name in shapes
            if name.endswith(BIAS) and pick.has(prefix + name)
        },
    )
