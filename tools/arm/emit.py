"""Kernels for ARM, made on any machine: their assembly, or machine code for the cache of an emulated one.

    python -m tools.arm.emit i8mm product_q8_0 ...
    python -m tools.arm.emit i8mm --into FOLDER

`LLORCH_CPU` takes no path that the CPU lacks, so that no wish ends in an illegal instruction. Here nothing is run: LLVM
gets ARM's triple, and the kernels are emitted as they would be on an ARM CPU with the features of the path.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from llorch.kernels.jit import Unit

TRIPLE = "aarch64-unknown-linux-gnu"
CPU = "generic"
"""LLVM's name of a CPU that it does not know, as an emulated one is."""


def pretend(path: str) -> None:
    """Make this process emit for ARM; to be called before a module that makes kernels is imported.

    Raises:
        ValueError: there is no such path.
    """
    import llvmlite.binding as llvm

    from llorch.kernels import paths

    if path not in paths.KERNEL_PATHS:
        raise ValueError(f"no kernel path is called {path}")
    chosen = paths.KERNEL_PATHS[path]
    features = chosen.needs | {"neon"}
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    replaced: dict[str, Any] = {
        "chosen": lambda: chosen,
        "features": lambda: features,
        "_found_features": lambda: dict.fromkeys(features, True),
        "host_name": lambda: CPU,
        "must_tell_llvm": lambda: True,
    }
    mock.patch.object(llvm, "get_process_triple", return_value=TRIPLE).start()
    mock.patch.multiple(paths, **replaced).start()

    from llorch.kernels.emit import scalars

    mock.patch.multiple(scalars, IS_X86=False, IS_ARM=True).start()


def units() -> dict[str, Unit]:
    """All kernels by their names; `pretend` comes first."""
    from llorch.kernels import all_units

    return {unit.name: unit for unit in all_units()}


def assembly(names: Iterable[str]) -> dict[str, str]:
    """The assembly of kernels; `pretend` comes first.

    Raises:
        ValueError: there is no such kernel.
    """
    known = units()
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise ValueError(f"no kernel is called {', '.join(unknown)}")
    return {name: known[name].assembly() for name in names}


def write_machine_code(folder: Path, names: Iterable[str] = ()) -> int:
    """Write entries of the cache (`object_cache`) into `folder`, those that are missing; `pretend` comes first.

    Args:
        folder: what `object_cache.directory` says where they are to be used.
        names: of the kernels; default: all.

    Returns:
        Entries written.
    """
    from llorch.kernels import object_cache

    written = 0
    with mock.patch.object(object_cache, "directory", return_value=folder):
        for name, unit in units().items():
            if (not names or name in names) and object_cache.read(name) is None:
                object_cache.write(name, unit._compile())
                written += 1
    return written


def main() -> None:
    """What the module says."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.arm.emit", description="Kernels for ARM on any machine."
    )
    parser.add_argument("path", help="kernel path: i8mm, neon or generic")
    parser.add_argument("names", nargs="*", help="kernels; with --into default: all")
    parser.add_argument("--into", type=Path, help="write machine code into this folder of the kernel cache")
    given = parser.parse_intermixed_args()
    pretend(given.path)
    if given.into:
        print(f"{write_machine_code(given.into, given.names)} kernels written")
    else:
        print("\n".join(assembly(given.names).values()))


if __name__ == "__main__":
    main()
