"""Operations on quantised weights, which are refused by name."""

from __future__ import annotations

from llorch.errors import OnnxError
from llorch.formats.onnx.graph import Node

_QUANTIZED = (
    "MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "GatherBlockQuantized", "DequantizeLinear", "QuantizeLinear",
    "DynamicQuantizeLinear", "MatMulInteger", "MatMulInteger16", "QLinearMatMul", "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat", "QAttention", "QMoE", "BlockDequantizeLinear", "QGemm", "QuantizeBFP", "DequantizeBFP",
)  # fmt: skip


def refuse_quantized(node: Node) -> None:
    """Refuse a node that computes with quantised numbers.

    Raises:
        OnnxError: it does.
    """
    if node.op_type in _QUANTIZED:
        raise OnnxError(
            f"{node.label}: quantised ONNX weights are not supported, expected float32, float16 or bfloat16; export "
            "the model again without quantisation (ONNX Runtime GenAI: -p fp32 or -p fp16) and quantise it with "
            "`llorch convert MODEL.onnx OUT.gguf --type Q4_0`"
        )
