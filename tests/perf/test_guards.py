"""No kernel loses a tenth of its speed: its ratio to a roof measured beside it, against what was recorded.

`tools.performance.guards` says what is measured and how. A design of CPU without records has the loose limits of
`test_kernel_ratios`, which hold on all CPUs.
"""

from __future__ import annotations

from functools import partial

import pytest

from llorch.kernels.paths import PATHS
from tools.performance.guards import records, runs

pytestmark = [pytest.mark.slow]

PLANTED = 0.15
PLANTED_IN = frozenset(
    {
        "norm",
        "SwiGLU to Q8_0",
        "RoPE and cache append",
        "attention of a prompt",
        "attention of a token over a long context",
        "Q8_0, 1 token, from memory",
        "Q4_0, 8 tokens, from memory",
        "Q6_K, 128 tokens, in the cache",
    }
)
"""A guard of each sort."""
N_VALUES = 3


@pytest.mark.parametrize("path", PATHS)
def test_no_kernel_has_lost_a_tenth_of_its_speed(path: str) -> None:
    if path not in runs.runnable_paths():
        pytest.skip(f"this CPU has no {path} kernels")
    recorded = records.read(records.this_cpu()).get(path)
    if recorded is None:
        pytest.skip(
            f"nothing is recorded for {path} kernels on {records.this_cpu()}, and only the loose limits of "
            f"test_kernel_ratios hold; record it: {records.COMMAND}"
        )
    verdicts = records.judge(recorded, partial(runs.measure, path))
    print(*verdicts, sep="\n")
    lost = [str(verdict) for verdict in verdicts if verdict.is_lost]
    assert not lost, f"{path} kernels are slower than recorded (on purpose? {records.COMMAND})"


def test_a_loss_of_15_percent_is_found() -> None:
    """Kernels that do 15 % more than they say are lost, against what the same kernels reach in the same minute."""
    path = runs.runnable_paths()[0]
    now = runs.measure(path, PLANTED_IN, times=N_VALUES)
    slower = runs.measure(path, PLANTED_IN, planted=PLANTED, times=N_VALUES)
    verdicts = records.judge(
        {name: records.second_best(values) for name, values in now.items()}, lambda _: slower, N_VALUES
    )
    print(*verdicts, sep="\n")
    assert {verdict.name for verdict in verdicts} == PLANTED_IN
    assert [str(verdict) for verdict in verdicts if not verdict.is_lost] == []
