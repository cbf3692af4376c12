"""What a soak must show: nothing grows, nothing is lost, nothing fails that should not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tools.performance.server_loads import percentile
from tools.performance.soaking.observer import Sample

WARM_UP = 1 / 3
"""Share of the run before growth counts: until then every block of the KV cache and every thread has been used."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How much is still nothing.

    Attributes:
        growth_mib: by which anonymous memory may grow after the warm-up, however long the run: the allocator's
            arenas breathe by some MiB.
        files: descriptors that may be open more at the end than before the load: probes, and connections that end.
        threads: threads more than at the end of the warm-up.
        health_p99_s: of `/health`, while two cores also run the load.
    """

    growth_mib: float = 8.0
    files: int = 6
    threads: int = 2
    health_p99_s: float = 0.25


def slope_per_s(samples: Sequence[Sample]) -> float:
    """MiB a second by which anonymous memory grows: the median of the slopes between halves (Theil and Sen's)."""
    half = len(samples) // 2
    return statistics.median(
        (later.rss_anon_mib - earlier.rss_anon_mib) / (later.at_s - earlier.at_s)
        for earlier, later in zip(samples, samples[half:], strict=False)
    )


def faults(
    first: Sample, samples: Sequence[Sample], last: Sample, probes_s: Sequence[float], allowed: Tolerances
) -> list[str]:
    """What is wrong, in words.

    Args:
        first: before the load.
        samples: during the load.
        last: when all clients are gone.
        probes_s: durations of probes.
        allowed: how much is still nothing.
    """
    found = []
    warm = samples[int(len(samples) * WARM_UP) :]
    if len(warm) < 4:
        return [f"expected at least 6 samples, got {len(samples)}: the run is too short to say anything"]
    growth = slope_per_s(warm) * (warm[-1].at_s - warm[0].at_s)
    if growth > allowed.growth_mib:
        found.append(f"anonymous memory grew by {growth:.1f} MiB, allowed are {allowed.growth_mib:g}")
    if last.n_files > first.n_files + allowed.files:
        found.append(f"{last.n_files} descriptors are open at the end, {first.n_files} were before the load")
    most = max(sample.n_threads for sample in [*warm, last])
    if most > warm[0].n_threads + allowed.threads:
        found.append(f"there were {most} threads, {warm[0].n_threads} after the warm-up")
    if last.kv_used or last.n_busy_slots:
        found.append(
            f"{last.kv_used} positions of the KV cache and {last.n_busy_slots} places are in use, by nobody"
        )
    if not probes_s or percentile(probes_s, 0.99) > allowed.health_p99_s:
        p99 = percentile(probes_s, 0.99) if probes_s else float("nan")
        found.append(f"/health took {p99:.3f} s in the 99th percentile, allowed are {allowed.health_p99_s:g}")
    return found
