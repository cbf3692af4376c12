"""llorch on emulated ARM CPUs: the demo model's answer and the kernels' results, compared with this machine's.

    python -m tools.arm.check FOLDER
    python -m tools.arm.check FOLDER --paths i8mm --types Q8_0 --compile-there

It makes the ARM Python in FOLDER (`environment`), has the kernels of each path compiled here (`emit`), because a
compiler is slow under emulation, and runs them there, on a CPU whose best path it is. With `--compile-there` Numba
compiles under emulation, as it would on an ARM machine: that takes minutes. Exit code 1: something differs, or the path
is another one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llorch.kernels import all_units
from llorch.model_files import DEMO_PATH
from tools.arm.environment import CPUS, REPOSITORY, emulator, make, python, site_folder

PROMPT = ("Once upon a time", "-n", "24", "--temperature", "0", "-t", "2", "--json")
TYPES = "F32,F16,BF16,Q8_0,Q4_0,Q4_1,Q5_1,Q4_K,Q6_K,IQ4_NL"
_OF_A_TYPE = ("pack_", "product_", "embed_", "scan_")
"""How the names of kernels begin whose type of weights follows."""

_PROBE = "from llorch.kernels import object_cache, paths; print(paths.path(), object_cache.directory())"


class Machine:
    """A Python, and how it runs a module of the clone.

    Args:
        command: the Python.
        folders: of packages, beside the clone.
        cache: folder of llorch's caches.
    """

    def __init__(self, command: str, folders: Sequence[Path], cache: Path) -> None:
        self._command = command
        search = os.pathsep.join(map(str, [REPOSITORY, *folders]))
        self._environment = {**os.environ, "PYTHONPATH": search, "LLORCH_CACHE_DIR": str(cache.absolute())}
        self._environment.pop("LLORCH_CPU", None)

    def run(self, *words: str) -> str:
        """What a Python called with `words` prints.

        Raises:
            subprocess.CalledProcessError: it failed; its words are on stderr.
        """
        done = subprocess.run(
            [self._command, *words], cwd=REPOSITORY, env=self._environment, stdout=subprocess.PIPE, text=True,
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout

    def answer(self) -> list[int]:
        """Token ids of the demo model's answer."""
        ids: list[int] = json.loads(self.run("-m", "llorch", "generate", *PROMPT))["token_ids"]
        return ids

    def results(self, types: str) -> dict[str, str]:
        """Hashes of what kernels and the demo model give, by name; kernels meet their slow twins there, too."""
        printed = self.run("-m", "tests.support.path_worker", types, str(DEMO_PATH))
        exact: dict[str, str] = json.loads(printed.splitlines()[-1])["exact"]
        return exact


def kernels_for(types: str) -> list[str]:
    """Names of the kernels that these types of weights and every model need."""
    wanted = {*types.lower().split(","), "i8", "q8_0"}
    names = [unit.name for unit in all_units() if not unit.name.endswith("_llama_cpp")]
    return [name for name in names if not name.startswith(_OF_A_TYPE) or name.partition("_")[2] in wanted]


def check(machine: Machine, path: str, here: tuple[list[int], dict[str, str]], given: Any) -> list[str]:
    """What is wrong with `path` on an emulated machine, in words."""
    name, kernels = machine.run("-c", _PROBE).split()
    if name != path:
        return [f"the path is {name}"]
    if not given.compile_there:
        words = [sys.executable, "-m", "tools.arm.emit", path, *kernels_for(given.types), "--into", kernels]
        subprocess.run(words, check=True, cwd=REPOSITORY, stdout=sys.stderr)
    faults = []
    answer, results = here
    if (there := machine.answer()) != answer:
        faults.append(f"the demo model says {there}, not {answer}")
    made = machine.results(given.types)
    return faults + [f"other bits: {key}" for key in sorted(results) if made.get(key) != results[key]]


def main() -> int:
    """What the module says; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.arm.check", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for the ARM Python and the kernels")
    parser.add_argument("--paths", nargs="+", choices=CPUS, default=list(CPUS), help="kernel paths")
    parser.add_argument("--types", default=TYPES, help="types of weights, with commas between them")
    parser.add_argument("--compile-there", action="store_true", help="compile kernels under emulation")
    given = parser.parse_args()
    if emulator() is None:
        raise SystemExit("there is no qemu-aarch64 here (Debian: apt install qemu-user-static)")
    make(given.folder)
    native = Machine(sys.executable, [], given.folder / "cache" / "here")
    here = native.answer(), native.results(given.types)
    failed = False
    for path in given.paths:
        cpu = CPUS[path]
        script = python(given.folder, cpu)
        there = Machine(str(script), [site_folder(given.folder).absolute()], given.folder / "cache" / cpu)
        faults = check(there, path, here, given)
        failed |= bool(faults)
        verdict = (
            "; ".join(faults)
            or f"the same {len(here[0])} tokens, and the same bits of {len(here[1])} results"
        )
        print(f"{path} (QEMU's {cpu}): {verdict}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
