"""Number types of the KV cache, each with all that attention asks of it in one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from llorch.kernels.convert import float32_to_half
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.scalars import as_float32, as_uint16, half_to_float32
from llorch.kernels.emit.values import F32, I16, Int, load, vector
from llorch.kernels.jit import inlined
from llorch.kernels.layout import FLOAT_LANES


@dataclass(frozen=True, slots=True, eq=False)
class KVType:
    """A number type of the cache.

    Attributes:
        name: as the setting `kv_type` spells it.
        dtype: NumPy's.
        item_bytes: bytes of a number.
        load_vector: emits the load of 16 numbers at an address plus a constant offset, as float32.
        read: kernel (address, index) to float32.
        write: kernel (address, index, float32).
    """

    name: str
    dtype: type[np.floating]
    item_bytes: int
    load_vector: Callable[[Any, Int, int], Any]
    read: Any
    write: Any


def _load_f32(builder: Any, address: Int, offset: int) -> Any:
    return load(vector(F32, FLOAT_LANES), address, offset, align=4)


def _load_f16(builder: Any, address: Int, offset: int) -> Any:
    return half_to_float(builder, load(vector(I16, FLOAT_LANES), address, offset, align=2))


@inlined
def _read_f32(address, i):
    return as_float32(address)[i]


@inlined
def _read_f16(address, i):
    return half_to_float32(as_uint16(address)[i])


@inlined
def _write_f32(address, i, value):
    as_float32(address)[i] = value


@inlined
def _write_f16(address, i, value):
    as_uint16(address)[i] = float32_to_half(value)


KV_TYPES = {
    kv.name: kv
    for kv in (
        KVType("f32", np.float32, 4, _load_f32, _read_f32, _write_f32),
        KVType("f16", np.float16, 2, _load_f16, _read_f16, _write_f16),
    )
}
"""By name."""
