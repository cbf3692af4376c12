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

PLANTED = 0.25
"""More than what must be found by as much as two processes differ."""
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
N_PROCESSES = 3


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


def test_a_planted_loss_is_found() -> None:
    """Kernels that do more work than they say are lost, against what the same kernels reach in the same minute."""
    path = runs.runnable_paths()[0]
    now: dict[str, list[float]] = {name: [] for name in PLANTED_IN}
    slower: dict[str, list[float]] = {name: [] for name in PLANTED_IN}
    for _ in range(N_PROCESSES):  # in turns, as whole processes can be slow
        for values, planted in ((now, 0.0), (slower, PLANTED)):
            for name, found in runs.measure(path, PLANTED_IN, planted=planted).items():
                values[name] += found
    recorded = {name: records.second_best(values) for name, values in now.items()}
    verdicts = records.judge(recorded, lambda _: slower, N_PROCESSES)
    print(*verdicts, sep="\n")
    assert [str(verdict) for verdict in verdicts if not verdict.is_lost] == []
