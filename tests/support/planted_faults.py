"""The faults that validation must find: what is changed, and the checkpoint and stage where it has to show first."""

from __future__ import annotations

from typing import Any

from tests.support import faults

FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "eps 1e-3": ({"config": faults.larger_eps}, "1", "attn_norm-0"),
    "post-norm": ({"operations": faults.POST_NORM}, "1", "attn_norm-0"),
    "one weight of K x 1.01": ({"tensors": faults.one_value_off("blk.1.attn_k.weight")}, "2", "Kcur-1"),
    "half-split RoPE": ({"operations": faults.HALF_SPLIT_ROPE}, "3", "Qcur_rope-0"),
    "start position off by one": ({"llama": faults.LateLlama}, "3", "Qcur_rope-0"),
    "V rotated": ({"operations": faults.ROTATED_V}, "3b", "cache_v-0"),
    "a cache row not written": (
        {"operations": faults.FORGETS_DECODE_ROWS, "llama": faults.ForgetfulLlama},
        "3b",
        "cache_k-0",
    ),
    "wrong score scale": ({"operations": faults.WRONG_SCALE}, "4", "kq_soft_max-0"),
    "missing mask": ({"llama": faults.MasklessLlama}, "4", "kq_soft_max-0"),
    "one weight of attn_output x 1.01": (
        {"tensors": faults.one_value_off("blk.1.attn_output.weight")},
        "5",
        "attn_out-1",
    ),
    "missing residual": ({"operations": faults.NO_RESIDUAL}, "7", "ffn_inp-0"),
    "gate and up swapped": ({"weights": faults.gate_and_up_swapped}, "6", "ffn_gate-0"),
    "one weight of ffn_down x 1.01": (
        {"tensors": faults.one_value_off("blk.0.ffn_down.weight")},
        "6",
        "ffn_out-0",
    ),
    "tied head used by mistake": ({"weights": faults.tied_head}, "8", "result_output"),
    "fused steps without RoPE": ({"operations": faults.UNROTATED_WHEN_FUSED}, "9", "last row"),
    "other bits in another run": ({"llama": faults.RestlessLlama}, "12", "greedy tokens"),
}
