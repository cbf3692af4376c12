"""What a measured speed depends on and a package cannot say: the processor, its caches, memory, kernel, governor."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from llorch.machine.cpu import model_name
from llorch.machine.memory import MEMORY_INFO
from llorch.machine.threads import CPUS, allowed_cpus, core_of

CPU_INFO = Path("/proc/cpuinfo")
_IDENTITY = {
    "vendor_id": "vendor", "cpu family": "family", "model": "model_number", "stepping": "stepping",
    "microcode": "microcode",
}  # fmt: skip


def hardware(cpu_info: Path = CPU_INFO, memory_info: Path = MEMORY_INFO, cpus: Path = CPUS) -> dict[str, Any]:
    """The machine by name of its properties; None where the system does not say."""
    numbers = sorted(allowed_cpus())
    first = cpus / f"cpu{numbers[0] if numbers else 0}"
    cores = {core_of(number, cpus) for number in numbers} - {None}
    return {
        "cpu": {"name": model_name(), "architecture": platform.machine(), **_cpu_identity(cpu_info)},
        "caches": _caches(first),
        "logical_cpus": os.cpu_count(),
        "allowed_cpus": len(numbers) or None,
        "allowed_cores": len(cores) or None,
        "memory_bytes": _memory_bytes(memory_info),
        "governor": _text(first / "cpufreq" / "scaling_governor"),
        "max_frequency_khz": _number(first / "cpufreq" / "cpuinfo_max_freq"),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def _cpu_identity(path: Path) -> dict[str, Any]:
    """What the first processor of `/proc/cpuinfo` says about itself; flags sorted."""
    lines = (_text(path) or "").partition("\n\n")[0].splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags") or facts.get("Features")
    identity: dict[str, Any] = {name: facts.get(key) for key, name in _IDENTITY.items()}
    return {**identity, "flags": sorted(flags.split()) if flags else None}


def _caches(cpu: Path) -> list[dict[str, Any]] | None:
    """Caches of one processor: level, type, bytes, and the processors that share it, as Linux lists them."""
    found = []
    for folder in sorted(cpu.glob("cache/index*")):
        size = re.fullmatch(r"(\d+)K", _text(folder / "size") or "")
        entry = {
            "level": _number(folder / "level"),
            "type": _text(folder / "type"),
            "bytes": int(size[1]) * 1024 if size else None,
            "shared_by": _text(folder / "shared_cpu_list"),
        }
        found.append(entry)
    return found or None


def _memory_bytes(path: Path) -> int | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text(path) or "", re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    if "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.isdecimal() else None
