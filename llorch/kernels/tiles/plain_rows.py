"""The end of a product of plain integers: an exact int32 sum of a whole row becomes float32, scaled once."""

from __future__ import annotations

from typing import Any

from llorch.kernels.emit.values import F32, Int, load, splat


def scaled_rows(builder: Any, sums: list[Any], factors: list[Any], x_scales: list[Int]) -> list[Any]:
    """``float32(sum) * factor * x_scale``.

    Args:
        builder: of the function under construction.
        sums: int32, token-major.
        factors: float32 of the rows, by vector of rows.
        x_scales: addresses of the tokens' scales.
    """
    n, result = len(factors), []
    for i, total in enumerate(sums):
        factor = factors[i % n]
        x_scale = splat(builder, load(F32, x_scales[i // n], align=4), factor.type.count)
        result.append(builder.fmul(builder.fmul(builder.sitofp(total, factor.type), factor), x_scale))
    return result
