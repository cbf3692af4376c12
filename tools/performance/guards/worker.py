"""Measures guards on the kernel path of this process, and prints them as JSON: path, and ratios by name.

    LLORCH_CPU=avx2 python -m tools.performance.guards.worker '{"names": null, "planted": 0, "times": 1}'

`names`: those wanted, null for all. `planted`: a loss of speed to be simulated, as a share. `times`: values of each.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llorch.kernels import paths
from tools.performance.guards import kernels
from tools.performance.guards.bench import Bench

INTEGERS = "int8 multiply-adds by those of float32"


def measure(names: frozenset[str] | None, planted: float, times: int) -> dict[str, list[float]]:
    """Ratios by name, `times` of each."""
    bench = Bench(kernels.scratch_bytes())
    found: dict[str, list[float]] = {}
    if not planted and (names is None or INTEGERS in names):
        found[INTEGERS] = [bench.integers_by_floats() for _ in range(times)]
    for group in kernels.groups(bench.team, names):
        for _ in range(times):
            for name, ratio in bench.ratios(group, planted).items():
                found.setdefault(name, []).append(ratio)
    bench.close()
    return found


def main() -> None:
    """Command line.

    A thread measures, because its stack begins at the same place of a page in every process. That of the main thread
    begins anywhere, and where the local variables of a kernel meet its operands in the last twelve bits of addresses
    decides: the portable kernel that makes Q8_K activations reached between 3.45 and 4.53, a process each.
    """
    wanted: dict[str, Any] = json.loads(sys.argv[1])
    names = None if wanted["names"] is None else frozenset(wanted["names"])
    with ThreadPoolExecutor(1) as pool:
        ratios = pool.submit(measure, names, wanted["planted"], wanted["times"]).result()
    print(json.dumps({"path": paths.path(), "llvm_cpu": paths.host_name(), "ratios": ratios}))


if __name__ == "__main__":
    main()
