"""A forward pass written down once: a list of instructions that the thread team runs, step after step.

`Program` is the notebook: the model writes one instruction per line of the paper, each a row of 16 int64
(`interpreter` reads them). Buffers stay where they are from step to step; what changes (rows, positions, cache)
stands in the `Step`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llorch.machine.memory import aligned_zeros

RECORD = 16
"""int64 per instruction: opcode, flags, then operands."""

BARRIER, OUTPUT_ROWS = 1, 2
"""Flags: wait for all threads afterwards; rows are the step's outputs instead of its batch."""

EMBED, NORM, PREPARE, MATMUL_Q8_0, MATMUL_FLOAT, ROPE_STORE, ATTEND, SCORES, SWIGLU, ADD, SELECT = range(11)

DO_ROPE, DO_STORE = 1, 2
"""What a ROPE_STORE instruction does."""

FORM_Q8_0, FORM_F16, FORM_BF16 = 1, 2, 4
"""Forms of an activation beside plain float32."""


@dataclass(slots=True)
class Rows:
    """float32 rows of `n` values, `stride` bytes apart, padded to whole vectors of 16.

    Attributes:
        data: float32 (n_rows, padded n).
        n: values per row in use.
    """

    data: NDArray[np.float32]
    n: int

    @classmethod
    def empty(cls, n_rows: int, n: int) -> Rows:
        """Zeroed rows for up to `n_rows` tokens."""
        return cls(aligned_zeros((n_rows, -(-n // 16) * 16), np.float32), n)

    @property
    def address(self) -> int:
        """Address of the first value."""
        return int(self.data.ctypes.data)

    @property
    def stride(self) -> int:
        """Bytes from one row to the next."""
        return int(self.data.strides[0])

    def view(self, n_rows: int) -> NDArray[np.float32]:
        """The first `n_rows` rows without padding."""
        return self.data[:n_rows, : self.n]


@dataclass(slots=True)
class Activation:
    """Rows, and the other forms in which some weights want them (`forms` says which exist)."""

    rows: Rows
    forms: int = 0
    q: NDArray[np.int8] = field(default_factory=lambda: np.zeros((0, 0), np.int8))
    d: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    s: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    half: Rows | None = None
    bfloat: Rows | None = None

    @classmethod
    def empty(cls, n_rows: int, n: int, forms: int) -> Activation:
        """Zeroed buffers for up to `n_rows` tokens in the given forms."""
        made = cls(Rows.empty(n_rows, n), forms)
        if forms & FORM_Q8_0:
            made.q = aligned_zeros((n_rows, n), np.int8)
            made.d = aligned_zeros((n_rows, n // 32), np.float32)
            made.s = aligned_zeros((n_rows, n // 32), np.int32)
        if forms & FORM_F16:
            made.half = Rows.empty(n_rows, n)
        if forms & FORM_BF16:
            made.bfloat = Rows.empty(n_rows, n)
        return made

    def operands(self) -> list[int]:
        """forms, q, d, s, half, bfloat as the interpreter wants them."""
        return [
            self.forms,
            int(self.q.ctypes.data),
            int(self.d.ctypes.data),
            int(self.s.ctypes.data),
            self.half.address if self.half else 0,
            self.bfloat.address if self.bfloat else 0,
        ]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight matrix ready for the kernels.

    Attributes:
        type_id: ggml id of its type.
        n_out, n_in: shape.
        address: first byte, of the rows as in the file or of the tiles.
        is_packed: whether `address` holds tiles.
    """

    type_id: int
    n_out: int
    n_in: int
    address: int
    is_packed: bool


@dataclass(frozen=True, slots=True)
class Tap:
    """A buffer that holds a named intermediate once an instruction is done.

    Attributes:
        name: the public name (DESIGN's dump names).
        layer: -1 outside the layers.
        rows: where the values stand.
        shape: shape of one row for the probe, e.g. ``(n_head, head_dim)``.
        is_output: rows are the step's outputs instead of its batch.
    """

    name: str
    layer: int
    rows: Rows
    shape: tuple[int, ...]
    is_output: bool = False


def float_bits(value: float) -> int:
    """The float32 `value` as an operand."""
    return int(np.float32(value).view(np.int32))


class Program:
    """Instructions in order, with labels for timelines and taps for probes."""

    def __init__(self) -> None:
        self._records: list[list[int]] = []
        self.labels: list[tuple[str, int]] = []
        self.taps: dict[int, list[Tap]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def records(self) -> NDArray[np.int64]:
        """All instructions as int64 (n, RECORD)."""
        return np.array(self._records, np.int64).reshape(-1, RECORD)

    def tap(self, name: str, layer: int, rows: Rows, *shape: int, is_output: bool = False) -> None:
        """Name the buffer that the instruction written last has filled."""
        tap = Tap(name, layer, rows, shape or (rows.n,), is_output)
        self.taps.setdefault(len(self) - 1, []).append(tap)

    def _add(
        self, label: str, layer: int, opcode: int, operands: list[int], barrier: bool, outputs: bool
    ) -> None:
        flags = (BARRIER if barrier else 0) | (OUTPUT_ROWS if outputs else 0)
        record = [opcode, flags, *operands]
        self._records.append(record + [0] * (RECORD - len(record)))
        self.labels.append((label, layer))

    def embed(self, table: Matrix, row_bytes: int, out: Rows) -> None:
        """``out[r] = table[token_id[r]]``, dequantised."""
        operands = [table.address, table.type_id, table.n_in, row_bytes, out.address, out.stride]
        self._add("embed", -1, EMBED, operands, True, False)

    def norm(
        self,
        layer: int,
        x: Rows,
        weight: NDArray[np.float32],
        eps: float,
        out: Activation,
        outputs: bool = False,
    ) -> None:
        """``out = rms_norm(x) * weight``, in all forms of `out`."""
        operands = [x.address, x.stride, int(weight.ctypes.data), x.n, float_bits(eps), out.rows.address]
        self._add("norm", layer, NORM, [*operands, out.rows.stride, *out.operands()], True, outputs)

    def prepare(self, layer: int, x: Activation, outputs: bool = False) -> None:
        """Fill the other forms of `x` from its float32 rows."""
        if x.forms:
            operands = [x.rows.address, x.rows.stride, x.rows.n, *x.operands()]
            self._add("prepare", layer, PREPARE, operands, True, outputs)

    def matmul(
        self,
        label: str,
        layer: int,
        weight: Matrix,
        x: Activation,
        out: Rows | None,
        *,
        accumulate: bool = False,
        barrier: bool = True,
        outputs: bool = False,
    ) -> None:
        """``out = weight @ x``, or ``+=``; without `out` the result goes to the step's logits."""
        to = [out.address, out.stride] if out else [0, 0]
        if weight.type_id == 8:
            _, q, d, s, _, _ = x.operands()
            packed = int(weight.is_packed)
            operands = [weight.address, packed, weight.n_in, weight.n_out, q, d, s, *to, int(accumulate)]
            self._add(label, layer, MATMUL_Q8_0, operands, barrier, outputs)
            return
        source = {0: x.rows, 1: x.half, 30: x.bfloat}[weight.type_id]
        if source is None:
            raise ValueError(f"{label}: the activation lacks the form that type {weight.type_id} needs")
        operands = [weight.type_id, weight.address, weight.n_in, weight.n_out, source.address, source.stride]
        self._add(label, layer, MATMUL_FLOAT, [*operands, *to, int(accumulate)], barrier, outputs)

    def rope_store(
        self, layer: int, q: Rows, k: Rows, v: Rows, n_head: int, n_head_kv: int, head_dim: int, n_rot: int
    ) -> None:
        """Rotate q and k in place and write k, v into the cache."""
        self._rope_store(
            "rope_store", layer, q, k, v, [n_head, n_head_kv, head_dim, n_rot], DO_ROPE | DO_STORE
        )

    def rope(
        self, layer: int, q: Rows, k: Rows, n_head: int, n_head_kv: int, head_dim: int, n_rot: int
    ) -> None:
        """Rotate q and k in place."""
        self._rope_store("rope", layer, q, k, k, [n_head, n_head_kv, head_dim, n_rot], DO_ROPE)

    def store(self, layer: int, k: Rows, v: Rows, n_head_kv: int, head_dim: int) -> None:
        """Write k, v into the cache."""
        self._rope_store("store", layer, k, k, v, [0, n_head_kv, head_dim, 0], DO_STORE)

    def _rope_store(
        self, label: str, layer: int, q: Rows, k: Rows, v: Rows, sizes: list[int], what: int
    ) -> None:
        operands = [q.address, q.stride, k.address, k.stride, v.address, v.stride, *sizes, layer, what]
        self._add(label, layer, ROPE_STORE, operands, True, False)

    def attend(self, layer: int, q: Rows, out: Rows, n_head: int, n_head_kv: int, head_dim: int) -> None:
        """Causal attention of q over the cache."""
        scale = float_bits(1.0 / np.sqrt(np.float32(head_dim)))
        operands = [q.address, q.stride, out.address, out.stride, n_head, n_head_kv, head_dim, scale, layer]
        self._add("attend", layer, ATTEND, operands, True, False)

    def scores(self, layer: int, q: Rows, n_head: int, n_head_kv: int, head_dim: int) -> None:
        """Raw scores and softmax weights, written out for a probe."""
        scale = float_bits(1.0 / np.sqrt(np.float32(head_dim)))
        operands = [q.address, q.stride, n_head, n_head_kv, head_dim, scale, layer]
        self._add("scores", layer, SCORES, operands, True, False)

    def swiglu(self, layer: int, gate: Rows, up: Rows, out: Activation) -> None:
        """``out = silu(gate) * up``, in all forms of `out`; all three have one stride."""
        operands = [gate.address, up.address, gate.stride, gate.n, out.rows.address, *out.operands()]
        self._add("swiglu", layer, SWIGLU, operands, True, False)

    def add(self, label: str, layer: int, a: Rows, b: Rows, out: Rows) -> None:
        """``out = a + b``; all three have one stride."""
        self._add(label, layer, ADD, [a.address, b.address, out.address, a.stride, a.n], True, False)

    def select(self, x: Rows, out: Rows) -> None:
        """Gather the rows whose logits are wanted."""
        self._add("select", -1, SELECT, [x.address, x.stride, out.address, out.stride, x.n], True, True)
