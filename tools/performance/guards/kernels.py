"""The kernels that decide how fast llorch is, each with a piece of work that is measured in a millisecond.

Two kinds of pieces: instructions that each take other bytes, from a ring that no cache holds, and instructions that do
the same again and again with operands in a cache.
"""

from __future__ import annotations

from collections.abc import Iterator

from llorch.kernels.ops.attend_queries import scratch_bytes as attention_scratch_bytes
from llorch.kernels.team import Team
from llorch.kernels.weights.format import WeightFormat
from llorch.kernels.weights.formats import FORMATS
from llorch.machine.caches import last_cache_bytes
from tools.performance.guards.attention import HEAD_DIM, LONG, MOST_REP, long_context, prompt
from tools.performance.guards.bench import N_REPEATS, Guard
from tools.performance.guards.rows import row_guards
from tools.performance.products import pieces, product, random_matrix, step_of

FORMAT_NAMES = ("Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")
STREAMING_TOKENS = (1, 8)

_N_IN, _N_OUT = 2048, 512
"""Of products that stream: 1.1 MB of Q8_0, between the products of SmolLM2-135M and those of a 1.1B model."""
_N_IN_CACHED, _N_OUT_CACHED, _N_TOKENS_CACHED = 1024, 128, 128
"""Of products in the cache: weights and activations of a path with 512 KB in the second cache."""


def formats() -> list[WeightFormat]:
    """The formats whose products are guarded."""
    by_name = {weight_format.quant.name: weight_format for weight_format in FORMATS.values()}
    return [by_name[name] for name in FORMAT_NAMES]


def scratch_bytes() -> int:
    """Scratch that the thread needs for all of them."""
    of_products = (f.scratch_bytes(_N_IN, is_packed=True) for f in formats())
    return max(attention_scratch_bytes(MOST_REP, HEAD_DIM), *of_products)


def ring_bytes() -> int:
    """Bytes of a ring, of which the caches hold a quarter at most."""
    return min(max(4 * last_cache_bytes(), 96 << 20), 512 << 20)


def groups(team: Team, names: frozenset[str] | None = None) -> Iterator[list[Guard]]:
    """All guards, or those that are named, in groups to be measured by turns; only one ring is in memory at a time."""

    def is_wanted(name: str) -> bool:
        return names is None or name in names

    cached = [*row_guards(), prompt()]
    cached += [_cached_product(team, weight_format) for weight_format in formats()]
    yield [guard for guard in cached if is_wanted(guard.name)]
    if is_wanted(LONG):
        yield [long_context(ring_bytes())]
    for weight_format in formats():
        if any(is_wanted(_streaming_name(weight_format, n)) for n in STREAMING_TOKENS):
            found = _streaming_products(team, weight_format)
            yield [guard for guard in found if is_wanted(guard.name)]


def _streaming_name(weight_format: WeightFormat, n_tokens: int) -> str:
    return f"{weight_format.quant.name}, {n_tokens} token{'s' * (n_tokens > 1)}, from memory"


def _streaming_products(team: Team, weight_format: WeightFormat) -> list[Guard]:
    n_bytes = weight_format.packed_bytes(_N_OUT, _N_IN)
    ring = random_matrix(weight_format, ring_bytes() // n_bytes * _N_OUT, _N_IN)
    return [
        Guard(
            _streaming_name(weight_format, n), product(team, pieces(ring, _N_OUT), n), step_of(n), n * _N_OUT * _N_IN,
            "int8", n_bytes, ring.address,
        )
        for n in STREAMING_TOKENS
    ]  # fmt: skip


def _cached_product(team: Team, weight_format: WeightFormat) -> Guard:
    matrix = random_matrix(weight_format, _N_OUT_CACHED, _N_IN_CACHED)
    program = product(team, [matrix] * N_REPEATS, _N_TOKENS_CACHED)
    name = f"{weight_format.quant.name}, 128 tokens, in the cache"
    n_macs = _N_TOKENS_CACHED * _N_OUT_CACHED * _N_IN_CACHED
    return Guard(name, program, step_of(_N_TOKENS_CACHED), n_macs, "int8")
