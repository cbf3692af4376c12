"""What was measured, by hashes: an engine's programs, libraries and packages, and a model's file and tensor types."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from llorch.formats.gguf.file import GGUFFile
from llorch.validation.package_digest import package_facts
from llorch.validation.records import sha256_of_file
from tools.performance.gguf_keys import file_type

LLORCH_PACKAGES = ("numpy", "numba", "llvmlite")
"""Packages that compute for llorch; llorch itself stands in the bundle by itself."""
_OF_THE_SYSTEM = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")
_LINKED = re.compile(r"=> (/.+) \(0x[0-9a-f]+\)")


def program_facts(programs: Iterable[Path]) -> list[dict[str, Any]]:
    """File, hash and bytes of programs and of the libraries that come with them: linked, or lying beside them."""
    found: dict[Path, None] = {}
    for program in programs:
        resolved = program.resolve()
        libraries = [*resolved.parent.glob("*.so*"), *_linked(resolved)]
        for path in (resolved, *sorted(library.resolve() for library in libraries)):
            if path.is_file():
                found.setdefault(path)
    return [
        {"file": path.name, "sha256": sha256_of_file(path), "bytes": path.stat().st_size} for path in found
    ]


def _linked(program: Path) -> list[Path]:
    """Libraries that the loader takes for a program, the system's own left out; none for a script."""
    with program.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return []
    try:
        done = subprocess.run(["ldd", program], capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [Path(path) for path in _LINKED.findall(done.stdout) if not path.startswith(_OF_THE_SYSTEM)]


def llorch_packages() -> list[dict[str, Any]]:
    """The installed packages that compute for llorch: name, version, hash of the files."""
    return [facts for facts in map(package_facts, LLORCH_PACKAGES) if facts is not None]


def model_facts(path: Path) -> dict[str, Any]:
    """A model's file, bytes, hash, the type that it names, and how many tensors of each type it holds."""
    with closing(GGUFFile(path)) as source:
        types = Counter(info.type_name for info in source.tensor_infos.values())
    return {
        "file": path.name,
        "type": file_type(path),
        "bytes": path.stat().st_size,
        "sha256": sha256_of_file(path),
        "tensor_types": dict(sorted(types.items())),
    }
