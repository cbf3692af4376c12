"""Kernels called one at a time, on NumPy arrays.

Nearly all of them are run as one-instruction programs by a thread team: the machine code is then the one that
the model runs, nothing is compiled twice, and the operands are tested too. Inputs lie directly before a page that
must not be touched, so that a read past their end kills the test run.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from llorch.kernels import convert
from llorch.kernels import step as st
from llorch.kernels.activations.q8_0 import Q8_0 as Q8_0_FORM
from llorch.kernels.activations.rounded import BF16 as BF16_FORM
from llorch.kernels.activations.rounded import F16 as F16_FORM
from llorch.kernels.buffers import Activation, ActivationForm, FormBuffers, Rows
from llorch.kernels.emit.vectors import exp_float32
from llorch.kernels.kv_types import KV_TYPES
from llorch.kernels.layout import FLOAT_LANES, TILE_ROWS, round_up
from llorch.kernels.ops import attend as attend_op
from llorch.kernels.ops import embed as embed_op
from llorch.kernels.ops import matmul as matmul_op
from llorch.kernels.ops import norm as norm_op
from llorch.kernels.ops import prepare as prepare_op
from llorch.kernels.ops import rope as rope_op
from llorch.kernels.ops import store as store_op
from llorch.kernels.ops import swiglu as swiglu_op
from llorch.kernels.ops.attend_parts import PartBuffers
from llorch.kernels.program import Program
from llorch.kernels.team import Team
from llorch.kernels.weights.format import Matrix, RowTables
from llorch.kernels.weights.formats import FORMATS
from llorch.machine.memory import aligned_bytes
from llorch.model.attention_tasks import attention_tasks
from llorch.model.kv_cache import KVCache
from llorch.quant.tensor import Tensor, quantize
from llorch.quant.types import QuantType

__all__ = ["BF16_FORM", "F16_FORM", "Q8_0_FORM"]

Floats = NDArray[np.float32]
SCRATCH_BYTES = 1 << 20
SENTINEL = np.float32(-12345.5)


@functools.cache
def team(n_threads: int) -> Team:
    """A team that lives as long as the test run (its idle threads are parked)."""
    return Team(n_threads, SCRATCH_BYTES)


def run(program: Program, n_rows: int, *, n_threads: int = 1, **fields: int) -> None:
    """Run a program on `n_rows` rows; `fields` are entries of the step by their names in `kernels.step`."""
    step = np.zeros(st.STEP_SIZE, np.int64)
    step[st.N_ROWS] = step[st.N_OUTPUTS] = n_rows
    for name, value in fields.items():
        step[getattr(st, name)] = value
    counters = np.zeros(len(program), np.int64)
    team(n_threads).run(program.records(), 0, len(program), step, counters)


_libc = ctypes.CDLL(None, use_errno=True)


def guarded(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that ends (to within its alignment) where an inaccessible page begins."""
    page = mmap.PAGESIZE
    n_pages = -(-max(array.nbytes, 1) // page)
    memory = mmap.mmap(-1, (n_pages + 1) * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _libc.mprotect(ctypes.c_void_p(base + n_pages * page), ctypes.c_size_t(page), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = np.frombuffer(memory, array.dtype, array.size, n_pages * page - array.nbytes)
    copy = copy.reshape(array.shape)
    copy[...] = array
    return copy


def guarded_rows(values: Floats) -> Rows:
    """Rows as buffers of the model hold them: padded to whole vectors, the padding full of sentinels."""
    n_rows, n = values.shape
    data = np.full((n_rows, round_up(n, FLOAT_LANES)), SENTINEL, np.float32)
    data[:, :n] = values
    return Rows(guarded(data), n)


def tensor_of(values: Floats, quant_type: QuantType) -> Tensor:
    """`values` stored as `quant_type`."""
    return Tensor("w", quant_type, values.shape, guarded(quantize(values, quant_type)))


def place(tensor: Tensor, *, packed: bool) -> Matrix:
    """The matrix as the kernels want it."""
    weight_format = FORMATS[tensor.type]
    tiling = weight_format.tiling
    n_out, n_in = tensor.shape
    rows = RowTables.of(tensor)
    if not packed or tiling is None:
        return Matrix(weight_format, n_out, n_in, tensor.address, False, (tensor, rows), *rows.addresses)
    stride, n_tiles = tiling.tile_bytes(n_in), -(-n_out // TILE_ROWS)
    tiles = aligned_bytes(n_tiles * stride)
    address = int(tiles.ctypes.data)
    order, _ = rows.addresses
    assert tiling.pack(tensor.address, n_in, n_out, address, stride, 0, n_tiles, order) == 0
    return Matrix(weight_format, n_out, n_in, address, True, (tiles, rows), *rows.addresses)


def activation_of(x: Floats, *forms: ActivationForm, keeps_rows: bool = True) -> Activation:
    """`x` with empty buffers for other forms, all guarded."""
    buffers = [FormBuffers(form, [guarded(array) for array in form.allocate(*x.shape)]) for form in forms]
    return Activation(guarded_rows(x), buffers, keeps_rows=keeps_rows)


def q8_0_of(activation: Activation) -> tuple[NDArray[np.int8], Floats, NDArray[np.int32]]:
    """Integers (n_rows, n), scales and sums (n_rows, n / 32) of an activation quantised to Q8_0."""
    q, d, s = activation.forms[Q8_0_FORM].arrays[:3]
    return q, d, s


def rounded_of(activation: Activation, form: ActivationForm) -> Floats:
    """The rows of an activation rounded to F16 or BF16: float32 (n_rows, n)."""
    (values,) = activation.forms[form].arrays
    kept = values[:, : activation.rows.n]
    rounded: Floats = kept if kept.dtype == np.float32 else (kept.astype(np.uint32) << 16).view(np.float32)
    return rounded


def prepare(x: Floats, *forms: ActivationForm, n_threads: int = 1) -> Activation:
    """`x` in the given forms."""
    made = activation_of(x, *forms)
    program = Program()
    prepare_op.prepare(program, 0, made)
    run(program, len(x), n_threads=n_threads)
    return made


def write_product(
    program: Program, tensor: Tensor, x: Floats, out: Rows, *, packed: bool, accumulate: bool
) -> None:
    """Preparation of `x` and product, as two instructions."""
    matrix = place(tensor, packed=packed)
    form = matrix.format.activation
    activation = activation_of(x, *([form] if form else []))
    prepare_op.prepare(program, 0, activation)
    matmul_op.matmul(program, "matmul", 0, matrix, activation, out, accumulate=accumulate)


def matmul(
    tensor: Tensor, x: Floats, *, packed: bool = False, n_threads: int = 1, onto: Floats | None = None
) -> Floats:
    """``x @ tensor.T`` as the model computes it, activations prepared first; with `onto`, added to that."""
    n_out = tensor.shape[0]
    whole = np.full((len(x) + 2, round_up(n_out, FLOAT_LANES)), SENTINEL, np.float32)
    out = Rows(whole[1:-1], n_out)
    if onto is not None:
        out.data[:, :n_out] = onto
    program = Program()
    write_product(program, tensor, x, out, packed=packed, accumulate=onto is not None)
    run(program, len(x), n_threads=n_threads)
    assert (whole[[0, -1]] == SENTINEL).all(), "written outside of out"
    return out.view(len(x)).copy()


def rms_norm(
    x: Floats, weight: Floats, eps: float, *forms: ActivationForm, n_threads: int = 1, keeps_rows: bool = True
) -> Activation:
    """RMSNorm of rows, in the given forms."""
    out = activation_of(np.full_like(x, SENTINEL), *forms, keeps_rows=keeps_rows)
    program = Program()
    norm_op.norm(program, 0, guarded_rows(x), guarded(weight), eps, out)
    run(program, len(x), n_threads=n_threads)
    return out


def swiglu(
    gate: Floats, up: Floats, *forms: ActivationForm, n_threads: int = 1, keeps_rows: bool = True
) -> Activation:
    """``silu(gate) * up`` of rows, in the given forms."""
    out = activation_of(np.full_like(gate, SENTINEL), *forms, keeps_rows=keeps_rows)
    program = Program()
    swiglu_op.swiglu(program, 0, guarded_rows(gate), guarded_rows(up), out)
    run(program, len(gate), n_threads=n_threads)
    return out


def embed(table: Tensor, token_ids: list[int], n_threads: int = 1) -> Floats:
    """Rows of an embedding table."""
    out = guarded_rows(np.full((len(token_ids), table.shape[1]), SENTINEL, np.float32))
    ids = guarded(np.array(token_ids, np.int32))
    program = Program()
    embed_op.embed(program, place(table, packed=False), out)
    run(program, len(ids), n_threads=n_threads, TOKEN_IDS=ids.ctypes.data)
    return out.view(len(ids)).copy()


def rope(x: Floats, n_rot: int, table: Floats, positions: list[int], n_threads: int = 1) -> Floats:
    """Rotated heads of x: float32 (n_rows, n_head, head_dim)."""
    n_rows, n_head, head_dim = x.shape
    q = guarded_rows(x.reshape(n_rows, -1))
    k = guarded_rows(x[:, :1].reshape(n_rows, -1))
    at, slots, table = guarded(np.array(positions, np.int32)), np.zeros(n_rows, np.int32), guarded(table)
    program = Program()
    rope_op.rope(program, 0, q, k, n_head, 1, head_dim, n_rot)
    run(program, n_rows, n_threads=n_threads, POSITIONS=at.ctypes.data, SLOTS=slots.ctypes.data,
        ROPE_TABLE=table.ctypes.data)  # fmt: skip
    rotated = q.view(n_rows).reshape(x.shape).copy()
    np.testing.assert_array_equal(k.view(n_rows), rotated[:, 0])
    return rotated


def attend(
    q: Floats,
    keys: Floats,
    values: Floats,
    cache: KVCache,
    slots: NDArray[np.int32],
    positions: NDArray[np.int32],
    tables: NDArray[np.int32],
    n_threads: int = 1,
    layer: int = 0,
) -> Floats:
    """Store the rows' keys and values in `cache`, then attend.

    Args:
        q: float32 (n_rows, n_head, head_dim).
        keys, values: float32 (n_rows, n_head_kv, head_dim).
    """
    n_rows, n_head, head_dim = q.shape
    n_head_kv = keys.shape[1]
    flat = [guarded_rows(a.reshape(n_rows, -1)) for a in (q, keys, values)]
    out = guarded_rows(np.full((n_rows, n_head * head_dim), SENTINEL, np.float32))
    tasks = attention_tasks(positions, slots, n_head_kv, n_threads)
    arrays = [guarded(np.ascontiguousarray(a, np.int32)) for a in (positions, slots, tables, tasks)]
    program = Program()
    kv = KV_TYPES[cache.kv_type]
    store_op.store(program, layer, flat[1], flat[2], n_head_kv, head_dim, kv)
    attend_op.attend(
        program,
        layer,
        flat[0],
        out,
        n_head,
        n_head_kv,
        head_dim,
        kv,
        PartBuffers(n_head, n_head_kv, head_dim),
    )
    run(program, n_rows, n_threads=n_threads, POSITIONS=arrays[0].ctypes.data, SLOTS=arrays[1].ctypes.data,
        TABLES=arrays[2].ctypes.data, TABLE_STRIDE=arrays[2].strides[0], TASKS=arrays[3].ctypes.data,
        N_TASKS=len(arrays[3]), KEYS=cache.keys.ctypes.data, VALUES=cache.values.ctypes.data,
        LAYER_KEY_BYTES=cache.keys.strides[0], LAYER_VALUE_BYTES=cache.values.strides[0],
        BLOCK_KEY_BYTES=cache.keys.strides[1], BLOCK_VALUE_BYTES=cache.values.strides[1])  # fmt: skip
    return out.view(n_rows).reshape(q.shape).copy()


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def exp_array(x: Floats, out: Floats) -> None:
    """``out[i] = exp_float32(x[i])``."""
    for i in range(len(x)):
        out[i] = exp_float32(x[i])


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def convert_array(x: Floats, half: Any, half_rounded: Floats, bfloat_rounded: Floats) -> None:
    """Conversions of a float32 array to float16 (bits), and its round trips."""
    for i in range(len(x)):
        half[i] = convert.float32_to_half(x[i])
        half_rounded[i] = convert.round_to_half(x[i])
        bfloat_rounded[i] = convert.round_to_bfloat(x[i])


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def widen_array(bits: Any, from_half: Floats, from_bfloat: Floats) -> None:
    """Values of 16-bit patterns read as float16 and as bfloat16."""
    for i in range(len(bits)):
        from_half[i] = convert.half_bits_to_float32(np.int32(bits[i]))
        from_bfloat[i] = convert.bfloat_to_float32(bits[i])
