"""What each instruction of a step has to do: bytes and multiply-adds, from the model's sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llorch.bench.work import Kind, Work
from llorch.kernels.buffers import ActivationForm
from llorch.kernels.kv_types import KV_TYPES
from llorch.kernels.layout import GROUP_ROWS, KV_BLOCK_SIZE, ceil_div, padded_head_dim
from llorch.kernels.weights.format import Matrix
from llorch.machine.caches import last_cache_bytes
from llorch.model.llama import Llama
from llorch.trace.records import StepRecord

FLOAT = 4
"""Bytes of a float32."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """What the work of a step depends on.

    Attributes:
        n_rows: of the batch.
        n_outputs: rows whose logits are computed.
        n_seen: positions that the rows attend to, added up.
        n_cached: positions of the sequences in whole KV blocks: each is read from memory once.
        n_read: the same, as often as groups of rows read them.
        longest: positions of the longest sequence.
    """

    n_rows: int
    n_outputs: int
    n_seen: int
    n_cached: int
    n_read: int
    longest: int

    @classmethod
    def of(cls, step: StepRecord) -> StepSize:
        """The sizes of a step."""
        n_seen = n_cached = n_read = longest = 0
        for chunk in step.chunks:
            first, n = chunk.first_position, chunk.n_tokens
            n_seen += n * (2 * first + n + 1) // 2
            n_cached += _whole_blocks(first + n)
            n_read += sum(_whole_blocks(first + min(i + GROUP_ROWS, n)) for i in range(0, n, GROUP_ROWS))
            longest = max(longest, first + n)
        return cls(step.n_rows, step.n_outputs, n_seen, n_cached, n_read, longest)


def _whole_blocks(n_positions: int) -> int:
    return ceil_div(n_positions, KV_BLOCK_SIZE) * KV_BLOCK_SIZE


Count = Callable[[StepSize], Work]
"""The work of an instruction in a step of some size."""


class StepWork:
    """Counts the work of a model's steps.

    Args:
        llama: the model.
        kv_type: number type of its cache.
        observed: whether the observed program ran.
    """

    def __init__(self, llama: Llama, kv_type: str, *, observed: bool = False) -> None:
        counter = _Counter(llama, kv_type, observed)
        labels = llama.labels_of(observed=observed)
        before = ["", *(label for label, _ in labels)]
        self._counts = [counter.count(*labels[i], before[i]) for i in range(len(labels))]
        self._weight_bytes = sum(matrix_bytes(m) for m in matrices(llama))
        self._position_bytes = counter.position_bytes * llama.config.n_layer
        self._cache_bytes = last_cache_bytes()

    def of(self, step: StepRecord) -> list[Work]:
        """The work of every instruction that ran, in the order of the program's labels."""
        size = StepSize.of(step)
        works = [count(size) for count in self._counts[: len(step.stamps_ns)]]
        if self._weight_bytes + size.n_cached * self._position_bytes <= self._cache_bytes:
            return [Work(w.shape, w.n_bytes, w.n_macs, w.kind) for w in works]
        return works


def matrices(llama: Llama) -> list[Matrix]:
    """Every matrix that a step multiplies with, in the order of use."""
    weights = llama.residence.weights
    return [*(m for layer in weights.layers for m in layer.matrices()), weights.output]


def matrix_bytes(matrix: Matrix) -> int:
    """Bytes of a matrix where it lies: tiles, or rows as in the file, and the factors of its rows."""
    factors = matrix.n_out * FLOAT if matrix.row_scales else 0
    if matrix.is_packed:
        return factors + matrix.format.packed_bytes(matrix.n_out, matrix.n_in)
    return factors + matrix.n_out * matrix.format.quant.row_bytes(matrix.n_in)


def _form_bytes(form: ActivationForm | None, n: int) -> int:
    """Bytes of a row of `n` values as a product reads it: integers, scales, one kind of sums."""
    return sum(a.nbytes for a in form.allocate(1, n)[:3]) if form else n * FLOAT


def _all_forms_bytes(used_by: Iterable[Matrix], n: int) -> int:
    """Bytes that filling the forms of a row takes, which some matrices are multiplied with."""
    forms = {m.format.activation for m in used_by} - {None}
    return sum(a.nbytes for form in forms if form for a in form.allocate(1, n))


class _Counter:
    """Finds out what an instruction does from its label."""

    def __init__(self, llama: Llama, kv_type: str, observed: bool) -> None:
        self._config = c = llama.config
        self._weights = w = llama.residence.weights
        self._is_fused = not observed
        item = KV_TYPES[kv_type].item_bytes
        self.position_bytes = c.n_head_kv * (c.head_dim + padded_head_dim(c.head_dim)) * item
        layers = w.layers
        self._forms = {
            "norm": _all_forms_bytes(
                (m for x in layers for m in (x.attn_q, x.attn_k, x.attn_v, x.ffn_gate, x.ffn_up)), c.n_embd
            ),
            "attend": _all_forms_bytes((x.attn_output for x in layers), c.n_embd_q),
            "swiglu": _all_forms_bytes((x.ffn_down for x in layers), c.n_ff),
            "output": _all_forms_bytes([w.output], c.n_embd),
        }
        self._widths = {"norm": c.n_embd, "attend": c.n_embd_q, "swiglu": c.n_ff, "output": c.n_embd}
        self._item = item

    def count(self, label: str, layer: int, before: str) -> Count:
        """The work of an instruction; `before` is the label of the one before it."""
        if label == "output":
            return self._product(self._weights.output, is_output=True)
        if label.startswith(("attn_", "ffn_")):
            matrix: Matrix = getattr(self._weights.layers[layer], label)
            return self._product(matrix, adds=self._is_fused and self._adds(label, layer))
        if label == "prepare":
            return self._prepare(before, is_output=layer < 0)
        if label == "bias":
            return self._bias(getattr(self._weights.layers[layer], before).n_out)
        if label == "norm":
            return self._norm(is_output=layer < 0)
        count: Count = getattr(self, f"_{label}")
        return count

    def _adds(self, label: str, layer: int) -> bool:
        """Whether the product is added to the stream by the instruction itself."""
        return label in ("attn_output", "ffn_down") and label not in self._weights.layers[layer].biases

    def _product(self, m: Matrix, *, is_output: bool = False, adds: bool = False) -> Count:
        weights, x_bytes = matrix_bytes(m), _form_bytes(m.format.activation, m.n_in)
        row_bytes = x_bytes + m.n_out * FLOAT * (2 if adds else 1)
        kind: Kind = m.format.arithmetic

        def count(s: StepSize) -> Work:
            n = s.n_outputs if is_output else s.n_rows
            shape = f"{n}x{m.n_in} @ {m.n_in}x{m.n_out} {m.format.quant.name}"
            return Work(shape, weights + n * row_bytes, n * m.n_in * m.n_out, kind, weights)

        return count

    def _norm(self, *, is_output: bool) -> Count:
        n, forms = self._config.n_embd, self._forms["output" if is_output else "norm"]
        row_bytes = 2 * n * FLOAT + (forms if self._is_fused else 0)

        def count(s: StepSize) -> Work:
            rows = s.n_outputs if is_output else s.n_rows
            return Work(f"{rows}x{n}", n * FLOAT + rows * row_bytes, rows * n, "float")

        return count

    def _prepare(self, before: str, *, is_output: bool) -> Count:
        of = "output" if is_output else before
        n, forms = self._widths[of], self._forms[of]

        def count(s: StepSize) -> Work:
            rows = s.n_outputs if is_output else s.n_rows
            return Work(f"{rows}x{n}", rows * (n * FLOAT + forms), 0, "float")

        return count

    def _bias(self, n: int) -> Count:
        return lambda s: Work(f"{s.n_rows}x{n}", (2 * s.n_rows + 1) * n * FLOAT, 0, "float")

    def _embed(self, s: StepSize) -> Work:
        table, n = self._weights.token_embd, self._config.n_embd
        read = s.n_rows * table.format.quant.row_bytes(n)
        shape = f"{s.n_rows} of {table.n_out}x{n} {table.format.quant.name}"
        return Work(shape, read + s.n_rows * n * FLOAT, 0, "float", read)

    def _rope(self, s: StepSize) -> Work:
        c = self._config
        heads = c.n_head + c.n_head_kv
        n_bytes = s.n_rows * FLOAT * (2 * heads * c.head_dim + c.n_rot)
        return Work(f"{s.n_rows}x{heads}x{c.head_dim}", n_bytes, s.n_rows * heads * c.n_rot * 2, "float")

    def _store(self, s: StepSize) -> Work:
        c = self._config
        n_bytes = s.n_rows * (2 * c.n_embd_kv * FLOAT + self.position_bytes)
        return Work(f"{s.n_rows}x{c.n_head_kv}x{c.head_dim} twice", n_bytes, 0, "float")

    def _rope_store(self, s: StepSize) -> Work:
        rope, store = self._rope(s), self._store(s)
        return Work(rope.shape, rope.n_bytes + store.n_bytes, rope.n_macs, "float")

    def _attend(self, s: StepSize) -> Work:
        c = self._config
        n_bytes = s.n_rows * 2 * c.n_embd_q * FLOAT + s.n_read * self.position_bytes
        shape = f"{s.n_rows}x{c.n_head}x{c.head_dim} over {s.longest}"
        return Work(shape, n_bytes, 2 * c.n_embd_q * s.n_seen, "float", s.n_cached * self.position_bytes)

    def _scores(self, s: StepSize) -> Work:
        c = self._config
        n_bytes = s.n_rows * c.n_embd_q * FLOAT + s.n_seen * (c.n_embd_q * self._item + c.n_head * FLOAT)
        keys = s.n_cached * c.n_embd_kv * self._item
        return Work(self._seen(s), n_bytes, c.n_embd_q * s.n_seen, "float", keys)

    def _softmax(self, s: StepSize) -> Work:
        """One of the passes: each reads and writes all scores, and does two things with each."""
        n = self._config.n_head * s.n_seen
        return Work(self._seen(s), 2 * n * FLOAT, n, "float")

    _softmax_maximum = _softmax_exponential = _softmax_normalise = _softmax
    _values = _scores
    """The sizes are the same: outputs for queries, values for keys."""

    def _seen(self, s: StepSize) -> str:
        return f"{s.n_rows}x{self._config.n_head} over {s.longest}"

    def _swiglu(self, s: StepSize) -> Work:
        n = self._config.n_ff
        row_bytes = 3 * n * FLOAT + (self._forms["swiglu"] if self._is_fused else 0)
        return Work(f"{s.n_rows}x{n}", s.n_rows * row_bytes, 2 * s.n_rows * n, "float")

    def _add(self, s: StepSize) -> Work:
        n = self._config.n_embd
        return Work(f"{s.n_rows}x{n}", 3 * s.n_rows * n * FLOAT, 0, "float")

    def _select(self, s: StepSize) -> Work:
        n = self._config.n_embd
        return Work(f"{s.n_outputs}x{n}", 2 * s.n_outputs * n * FLOAT, 0, "float")
