"""The figures that llama-perplexity prints, and llorch beside it, as numbers."""

from __future__ import annotations

import re
from typing import Any

NUMBER = r"-?\d+\.\d+"


def printed_figures(output: str) -> dict[str, Any]:
    """What a program printed.

    Args:
        output: all of it, with whatever else is in there.

    Returns:
        ``running``, the perplexity after each chunk; ``final``, the estimate and its error (of a plain run);
        ``statistics``, the numbers of each line behind its colon (of a comparison).
    """
    running = [float(value) for value in re.findall(rf"\[\d+\]({NUMBER})", output)]
    running = running or [
        float(value) for value in re.findall(rf"^ *\d+ +({NUMBER}) ± .*%$", output, flags=re.MULTILINE)
    ]
    final = re.search(rf"PPL = ({NUMBER}) \+/- ({NUMBER})", output)
    statistics = [
        [float(value) for value in re.findall(NUMBER, line.rsplit(":", 1)[1])]
        for line in output[output.find("===") :].splitlines()
        if re.search(r"(PPL|KLD|Δp|top p).*: ", line) and "===" in output
    ]
    return {
        "running": running,
        "final": None if final is None else [float(value) for value in final.groups()],
        "statistics": statistics,
    }
