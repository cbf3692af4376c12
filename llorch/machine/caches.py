"""How large the CPU's last cache is."""

from __future__ import annotations

from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def last_cache_bytes(cpus: Path = CPUS) -> int:
    """Bytes of all caches of the last level together; 0 where the system does not say."""
    sizes: dict[tuple[int, str], int] = {}
    for level in cpus.glob("cpu[0-9]*/cache/index[0-9]*/level"):
        try:
            text = (level.parent / "size").read_text().strip()
            shared = (level.parent / "shared_cpu_list").read_text().strip()
            sizes[int(level.read_text()), shared] = int(text[:-1]) * _UNITS[text[-1]]
        except (OSError, ValueError, LookupError):
            continue
    last = max((level for level, _ in sizes), default=0)
    return sum(size for (level, _), size in sizes.items() if level == last)
