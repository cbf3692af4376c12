"""The hardware of a bundle is what the system's files say, and None where they say nothing."""

from __future__ import annotations

import platform
from pathlib import Path

from llorch.machine.hardware import hardware
from llorch.machine.threads import allowed_cpus


def place(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_every_property_is_read_from_the_system(tmp_path: Path) -> None:
    cpus = {f"cpu{number}/topology/thread_siblings_list": "0-99\n" for number in allowed_cpus()}
    first = f"cpu{min(allowed_cpus())}"
    place(
        tmp_path,
        cpus
        | {
            "cpuinfo": "vendor_id\t: ACME\nmodel\t\t: 17\nflags\t\t: sse2 avx\nmicrocode : 0x5\n\nvendor_id\t: other\n",
            "meminfo": "MemTotal:       2048 kB\nMemFree: 1 kB\n",
            f"{first}/cache/index0/level": "1\n",
            f"{first}/cache/index0/type": "Data\n",
            f"{first}/cache/index0/size": "48K\n",
            f"{first}/cache/index0/shared_cpu_list": "0-1\n",
            f"{first}/cpufreq/scaling_governor": "powersave\n",
            f"{first}/cpufreq/cpuinfo_max_freq": "3700000\n",
        },
    )
    found = hardware(tmp_path / "cpuinfo", tmp_path / "meminfo", tmp_path)
    assert found["cpu"]["vendor"] == "ACME"
    assert found["cpu"]["model_number"] == "17"
    assert found["cpu"]["microcode"] == "0x5"
    assert found["cpu"]["flags"] == ["avx", "sse2"]
    assert found["caches"] == [{"level": 1, "type": "Data", "bytes": 49152, "shared_by": "0-1"}]
    assert found["memory_bytes"] == 2048 * 1024
    assert (found["governor"], found["max_frequency_khz"]) == ("powersave", 3700000)
    assert (found["allowed_cpus"], found["allowed_cores"]) == (len(allowed_cpus()), 1)
    assert found["kernel"] == f"{platform.system()} {platform.release()}"


def test_what_the_system_does_not_say_is_none(tmp_path: Path) -> None:
    found = hardware(tmp_path / "absent", tmp_path / "absent", tmp_path)
    assert found["cpu"]["flags"] is None
    assert (found["caches"], found["governor"], found["allowed_cores"]) == (None, None, None)
    assert found["memory_bytes"] > 1 << 28  # POSIX says it too
