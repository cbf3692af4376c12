"""Weights that compressed-tensors stored as int8 with a scale for each row (`w8a8`); its other schemes are refused.

Source: the `quantization_config` that compressed-tensors writes into config.json; llm-compressor and vLLM use it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from llorch.errors import ModelError, described, shown
from llorch.formats.printed import quote
from llorch.quant.tensor import Placement, Tensor
from llorch.quant.types import I8

WEIGHT, WEIGHT_SCALE = "weight", "weight_scale"
"""Ends of the names of a quantised layer's tensors: int8 (n_out, n_in), and its scales (n_out, 1)."""

COLUMNS = 32
"""Rows of int8 weights must be whole units of so many columns, as the kernels take them."""

_LARGEST = (2**31 - 1) // (128 * 128)
"""Columns of a row whose sum of products of int8 is sure to fit an int32."""

_SUPPORTED = (
    "llorch runs int8 weights with one symmetric scale a row (strategy 'channel') and int8 activations quantised per "
    "token while it runs (format 'int-quantized', 'w8a8')"
)
_NEXT_STEP = (
    "get the model in BF16, F16 or F32, or make that of this one with transformers and compressed-tensors "
    "(docs/directories.md has the lines); `llorch convert` then makes a GGUF of any type of it"
)
_UNQUANTISED = "get the unquantised model; `llorch convert` makes a GGUF of any type of it"


@dataclass(frozen=True, slots=True)
class Int8Channels:
    """What a `quantization_config` that llorch can run says: some layers have int8 weights and a scale for each row.

    Which ones is for the tensors to say: those of type I8. The config's own list holds regular expressions, and a
    stranger's are not run.
    """

    label: str

    def scale_name(self, weight_name: str) -> str:
        """The name of the scales of the int8 tensor `weight_name`, as the file spells both."""
        return weight_name.removesuffix(WEIGHT) + WEIGHT_SCALE


def quantization_of(config: Mapping[str, Any], label: str) -> Int8Channels | None:
    """Read the `quantization_config` of a config.json.

    Args:
        config: the parsed file.
        label: what stands in front of errors.

    Returns:
        None where the model is not quantised.

    Raises:
        ModelError: it is quantised in a way that llorch does not run.
    """
    given = config.get("quantization_config", config.get("compression_config"))
    if given is None:
        return None
    if not isinstance(given, dict):
        raise ModelError(f"{label}: quantization_config is {described(given)}, expected an object")
    return _Checker(label).int8_channels(given)


class _Checker:
    """Names what of a `quantization_config` cannot be run."""

    def __init__(self, label: str) -> None:
        self._label = label

    def int8_channels(self, given: dict[str, Any]) -> Int8Channels:
        method = given.get("quant_method")
        if method is None:
            self._refuse("says no quant_method", _UNQUANTISED)
        if method != "compressed-tensors":
            name = method.upper() if method in ("gptq", "awq") else shown(method)
            self._refuse(f"is quantised with {name}", _UNQUANTISED)
        if given.get("quantization_status") not in (None, "compressed", "frozen"):
            self._refuse(f"has quantization_status {shown(given['quantization_status'])}")
        if given.get("kv_cache_scheme") is not None:
            self._refuse("has a quantised KV cache (kv_cache_scheme)")
        if given.get("sparsity_config"):
            sparsity = self._object(given["sparsity_config"], "sparsity_config")
            if sparsity.get("format", "dense") != "dense":
                self._refuse(f"has sparse weights (sparsity_config.format {shown(sparsity['format'])})")
        if given.get("transform_config"):
            self._refuse("has transforms around its layers (transform_config)")
        groups = self._object(given.get("config_groups"), "config_groups")
        if not groups:
            self._refuse("has no config_groups")
        for name, group in groups.items():
            self._group(self._object(group, f"config_groups.{name}"), given.get("format"))
        return Int8Channels(self._label)

    def _group(self, group: dict[str, Any], outer_format: object) -> None:
        given_format = group.get("format") or outer_format
        weights = self._object(group.get("weights"), "weights")
        bits, kind = weights.get("num_bits"), weights.get("type", "int")
        if kind != "int" or bits != 8:
            self._refuse(f"has {_type_name(kind, bits)} weights (format {shown(given_format)})")
        if not weights.get("symmetric", True):
            self._refuse("has asymmetric int8 weights (zero points)")
        if weights.get("strategy") != "channel":
            size = f" of {shown(weights['group_size'])}" if weights.get("group_size") else ""
            self._refuse(f"has int8 weights with scales of strategy {shown(weights.get('strategy'))}{size}")
        if weights.get("actorder") not in (None, False, "weight", "static"):
            self._refuse(f"has re-ordered columns (actorder {shown(weights['actorder'])})")
        inputs = group.get("input_activations")
        if inputs is None:
            self._refuse("has int8 weights alone (w8a16: no input_activations)")
        self._activations(self._object(inputs, "input_activations"))
        if group.get("output_activations") is not None:
            self._refuse("has quantised output_activations")
        if given_format not in ("int-quantized", "naive-quantized"):
            self._refuse(f"is stored in the format {shown(given_format)}")

    def _activations(self, inputs: dict[str, Any]) -> None:
        bits, kind = inputs.get("num_bits"), inputs.get("type", "int")
        if kind != "int" or bits != 8:
            self._refuse(f"has {_type_name(kind, bits)} activations")
        if not inputs.get("symmetric", True):
            self._refuse("has asymmetric activations (zero points)")
        if inputs.get("dynamic") is not True:
            self._refuse("has activations with fixed scales (static quantisation)")
        if inputs.get("strategy") != "token":
            self._refuse(f"has activations with scales of strategy {shown(inputs.get('strategy'))}")

    def _object(self, value: object, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ModelError(
                f"{self._label}: {quote(name)} of quantization_config is {described(value)}, expected an object"
            )
        return value

    def _refuse(self, what: str, next_step: str = _NEXT_STEP) -> NoReturn:
        raise ModelError(f"{self._label}: quantization_config: the model {what}; {_SUPPORTED}; {next_step}")


def _type_name(kind: object, bits: object) -> str:
    """`int4` or `FP8`."""
    short = {"int": "int", "float": "FP"}
    if isinstance(kind, str) and kind in short and isinstance(bits, int):
        return f"{short[kind]}{shown(bits)}"
    return f"{shown(bits)}-bit {shown(kind)}"


def int8_tensor(
    name: str,
    weight: NDArray[np.uint8],
    shape: tuple[int, ...],
    scales: NDArray[np.float32],
    placement: Placement | None,
) -> Tensor:
    """The int8 weights of a layer as a tensor of type `I8`.

    Args:
        name: GGUF name.
        weight: uint8, the int8 as they are stored.
        shape: (n_out, n_in).
        scales: float32 (n_out, 1) or (n_out,), in the order in which the rows are stored.
        placement: where the rows lie; None for row after row.

    Raises:
        ModelError: the sizes do not agree, the kernels cannot take rows so long, or a scale is not a finite number.
    """
    label = f"tensor {name!r}"
    if len(shape) != 2:
        raise ModelError(f"{label}: has int8 weights of shape {shape}, expected a matrix")
    n_out, n_in = shape
    if placement is not None and placement.is_transposed:
        raise ModelError(f"{label}: has int8 weights that are stored transposed; get the unquantised model")
    n_stored = placement.n_stored if placement else n_out
    if scales.shape not in ((n_stored, 1), (n_stored,)):
        raise ModelError(f"{label}: its {WEIGHT_SCALE} has shape {scales.shape}, expected ({n_stored}, 1)")
    if n_in % COLUMNS or not 0 < n_in <= _LARGEST:
        raise ModelError(
            f"{label}: rows of {n_in} int8 cannot be multiplied: expected a multiple of {COLUMNS}, at most "
            f"{_LARGEST // COLUMNS * COLUMNS}; get the unquantised model"
        )
    row_scales = scales.reshape(-1).astype(np.float32)
    if placement is not None:
        row_scales = row_scales[placement.row_order]
    is_bad = ~np.isfinite(row_scales)
    if is_bad.any():
        raise ModelError(f"{label}: the scale of row {int(is_bad.argmax())} is not a finite number")
    return Tensor(name, I8, (n_out, n_in), weight, placement, row_scales)
