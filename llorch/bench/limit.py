"""The least time that a test can take on this machine: its bytes and multiply-adds under the measured roofline."""

from __future__ import annotations

from llorch.bench.roofline import Roofline
from llorch.bench.work import Kind
from llorch.kernels.layout import KV_BLOCK_SIZE
from llorch.machine.caches import last_cache_bytes
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama


def least_seconds(
    llama: Llama, roofline: Roofline, kv_type: str, *, n_passes: int, n_rows: int, n_outputs: int, n_sequences: int,
    depth: int,
) -> float:  # fmt: skip
    """Seconds below which a test cannot come.

    Args:
        llama: the model.
        roofline: of the machine, with the model's threads.
        kv_type: number type of the KV cache.
        n_passes: forward passes; each reads all weights once.
        n_rows: tokens computed, of all sequences.
        n_outputs: rows of logits computed.
        n_sequences: whose tokens they are, in equal parts.
        depth: tokens of each that are in the cache before.
    """
    config = llama.config
    per_sequence = n_rows // n_sequences
    seen = n_sequences * (per_sequence * depth + per_sequence * (per_sequence + 1) // 2)
    rows_per_pass = -(-n_rows // n_passes)
    cache_bytes = (
        KVCache.bytes_per_block(config, kv_type) * seen * n_sequences // (rows_per_pass * KV_BLOCK_SIZE)
    )
    output = llama.weights.output
    weight_bytes = sum(tensor.n_bytes for tensor in llama.weights.matrices())
    n_macs: dict[Kind, int] = {
        "integer": 0,
        "bfloat": 0,
        "float": 2 * config.n_layer * config.n_embd_q * seen,
    }
    for matrix in (m for layer in llama.residence.weights.layers for m in layer.matrices()):
        n_macs[matrix.format.arithmetic] += matrix.n_out * matrix.n_in * n_rows
    n_macs[llama.residence.weights.output.format.arithmetic] += output.n_elements * n_outputs
    n_bytes = weight_bytes * n_passes + cache_bytes
    is_streamed = weight_bytes + cache_bytes // n_passes > last_cache_bytes()
    return max(
        sum(n / roofline.macs_per_s(kind) for kind, n in n_macs.items()),
        n_bytes / (roofline.bytes_per_s if is_streamed else roofline.cache_bytes_per_s),
    )
