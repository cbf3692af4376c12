"""Tensors as safetensors files store them, matched with what `config.json` implies, and as GGUF would have them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llorch.errors import ModelError, shown
from llorch.formats.hugging_face.compressed import Int8Channels, int8_tensor
from llorch.formats.hugging_face.config import LlamaSizes
from llorch.formats.hugging_face.names import (
    EMBEDDING,
    HEAD,
    bias_key,
    gguf_name,
    implied_names,
    implied_shape,
    is_buffer,
    layer_of,
)
from llorch.formats.printed import printable, quote
from llorch.formats.safetensors.file import SafetensorsFile
from llorch.formats.safetensors.header import SafetensorsInfo
from llorch.quant.tensor import Placement, Tensor, dequantize
from llorch.quant.types import BF16, F16, F32, QuantType

_FLOATS: Mapping[str, QuantType] = {"F32": F32, "F16": F16, "BF16": BF16}
_INT8 = "I8"
_Stored: TypeAlias = dict[str, tuple[SafetensorsFile, SafetensorsInfo]]
_NEXT_STEP = (
    'write the model again in BF16, where you trust it: python -c "from transformers import AutoModelForCausalLM; '
    "AutoModelForCausalLM.from_pretrained('IN', torch_dtype='bfloat16').save_pretrained('OUT')\""
)


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor of a model, in the file that stores it (a `TensorSummary`).

    Attributes:
        name: GGUF name.
        info: what the file's header says of it.
        file: the file.
        n_head: heads whose rows are the halves of RoPE's pairs; 0 where rows lie as in GGUF.
        scales: factors of the rows of int8 weights, in another tensor.
    """

    name: str
    info: SafetensorsInfo
    file: SafetensorsFile
    n_head: int = 0
    scales: StoredTensor | None = None

    @property
    def type_name(self) -> str:
        """The file's name of the type, which for those that llorch runs is ggml's."""
        return self.info.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """NumPy order."""
        return self.info.shape

    @property
    def n_bytes(self) -> int:
        """Size of the data."""
        return self.info.n_bytes

    def tensor(self) -> Tensor:
        """The tensor as GGUF has it: matrices are views on the file, vectors of RoPE's rows a copy.

        Raises:
            ModelError: llorch cannot run its type.
        """
        data = self.file.raw(self.info.name)
        if self.scales is not None:
            scales = dequantize(self.scales.tensor()).reshape(-1)
            return int8_tensor(self.name, data, self.shape, scales, self._placement())
        quant_type = _FLOATS.get(self.info.dtype)
        if quant_type is None:
            raise ModelError(
                f"{self.label} has dtype {self.info.dtype}{_why_not(self.info.dtype)}; {_NEXT_STEP}"
            )
        placement = self._placement()
        if placement is not None and len(self.shape) == 1:
            data, placement = (
                data.view(f"V{quant_type.block_bytes}")[placement.row_order].view(np.uint8),
                None,
            )
        return Tensor(self.name, quant_type, self.shape, data, placement)

    def _placement(self) -> Placement | None:
        return Placement(rope_row_order(self.shape[0], self.n_head), self.shape[0]) if self.n_head else None

    @property
    def label(self) -> str:
        """Where it lies, for errors."""
        return f"{printable(self.file.path)}: tensor {quote(self.info.name)}"


@dataclass(frozen=True, slots=True, eq=False)
class MadeTensor:
    """A vector that no file holds, because config.json implies it (a `TensorSummary`).

    Attributes:
        name: GGUF name.
        values: float32 (n,).
    """

    name: str
    values: NDArray[np.float32]

    @property
    def type_name(self) -> str:
        """ggml's name of the type."""
        return F32.name

    @property
    def shape(self) -> tuple[int, ...]:
        """NumPy order."""
        return self.values.shape

    @property
    def n_bytes(self) -> int:
        """Size of the data."""
        return self.values.nbytes

    def tensor(self) -> Tensor:
        """The vector as a tensor."""
        return Tensor(self.name, F32, self.shape, self.values.view(np.uint8))


@functools.lru_cache(maxsize=8)
def rope_row_order(n_rows: int, n_head: int) -> NDArray[np.int32]:
    """Stored row of each GGUF row: GGUF's RoPE rotates rows 2i and 2i + 1 of a head, Hugging Face's i and half + i.

    Returns:
        int32 (n_rows,).
    """
    rows = np.arange(n_rows, dtype=np.int32).reshape(n_head, 2, -1)
    order = np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(-1)
    order.flags.writeable = False  # all layers share it
    return order


def match_tensors(
    files: Sequence[SafetensorsFile], sizes: LlamaSizes, int8: Int8Channels | None, label: str
) -> dict[str, StoredTensor]:
    """The tensors of a model by GGUF name, each as `sizes` implies it, whatever its type.

    Args:
        files: that hold them; no two hold the same name.
        sizes: of the model.
        int8: says where the scales of int8 weights are; None for an unquantised model.
        label: path of config.json, for errors.

    Raises:
        ModelError: a tensor is missing, has another shape, or is none of the model's; the message names both files.
    """
    stored = {
        name: (file, info) for file in files for name, info in file.infos.items() if not is_buffer(name)
    }
    if sizes.is_tied and (head := stored.pop(HEAD, None)) is not None:
        stored.setdefault(EMBEDDING, head)  # which of the two names is stored is for the writer to choose
    scales = {} if int8 is None else _take_scales(stored, int8)
    found: dict[str, StoredTensor] = {}
    for name, (file, info) in stored.items():
        gguf = _name_in_gguf(name, file, sizes, label)
        n_head = next((n for role, n in _rope_heads(sizes) if f".{role}." in gguf), 0)
        found[gguf] = StoredTensor(gguf, info, file, n_head, scales.get(name))
        shape, keys = implied_shape(gguf, sizes)
        if info.shape != shape:
            raise ModelError(
                f"{found[gguf].label} has shape {shown(info.shape)}, but {label} implies {shape} ({keys})"
            )
    for name in implied_names(sizes):
        if gguf_name(name) not in found:
            where = printable(files[0].path.parent)
            raise ModelError(f"{where}: tensor {quote(name)} is missing, which {label} implies")
    return found


def _rope_heads(sizes: LlamaSizes) -> tuple[tuple[str, int], ...]:
    """Roles whose rows RoPE pairs, and the number of their heads."""
    return ("attn_q", sizes.n_head), ("attn_k", sizes.n_head_kv)


def _take_scales(stored: _Stored, int8: Int8Channels) -> dict[str, StoredTensor]:
    """Take the scales of int8 weights out of `stored`: by the name of the weights."""
    scales = {}
    for name, (file, info) in list(stored.items()):
        if info.dtype != _INT8:
            continue
        scale_name, where = int8.scale_name(name), f"{printable(file.path)}: tensor {quote(name)} is int8"
        if scale_name not in stored:
            raise ModelError(f"{where}, but there is no {quote(scale_name)}")
        scale_file, scale = stored.pop(scale_name)
        if scale.shape not in (info.shape[:1], (*info.shape[:1], 1)):
            raise ModelError(
                f"{where} of shape {shown(info.shape)}, but {quote(scale_name)} has shape {shown(scale.shape)} instead "
                "of one scale a row"
            )
        scales[name] = StoredTensor(scale_name, scale, scale_file)
    return scales


def _name_in_gguf(name: str, file: SafetensorsFile, sizes: LlamaSizes, label: str) -> str:
    where = f"{printable(file.path)}: tensor {quote(name)}"
    gguf = gguf_name(name)
    if gguf is None:
        raise ModelError(
            f"{where} is not part of a Llama model, so llorch would compute something else than its maker"
        )
    layer = layer_of(gguf)
    if layer is not None and layer >= sizes.n_layer:
        raise ModelError(
            f"{where} is in a layer that {label} does not have: num_hidden_layers is {sizes.n_layer}"
        )
    key = bias_key(gguf)
    if key is not None and not getattr(sizes, key):
        raise ModelError(f"{where} is a bias, but {label} says that there are none: {key} is not true")
    return gguf


def _why_not(dtype: str) -> str:
    if dtype == _INT8 or dtype.startswith("F8"):
        return ", and config.json has no quantization_config that says how to read it"
    return ", which llorch does not run"
