"""The assembly of kernels for ARM, made on any machine:

    python -m tools.arm.emit i8mm product_q8_0 ...

`LLORCH_CPU` takes no path that the CPU lacks, so that no wish ends in an illegal instruction. Here nothing is run: LLVM
gets ARM's triple, and the kernels are emitted as they would be on an ARM CPU with the features of the path.
"""

from __future__ import annotations

import sys
from unittest import mock

TRIPLE = "aarch64-unknown-linux-gnu"
CPU = "generic"


def pretend(path: str) -> None:
    """Make this process emit for ARM; to be called before a module of kernels is imported.

    Raises:
        ValueError: there is no such path.
    """
    import llvmlite.binding as llvm

    from llorch.kernels import paths

    if path not in paths.KERNEL_PATHS:
        raise ValueError(f"no kernel path is called {path}")
    chosen = paths.KERNEL_PATHS[path]
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    replaced = {
        "chosen": lambda: chosen,
        "features": lambda: chosen.needs | {"neon"},
        "_host_features": lambda: chosen.needs | {"neon"},
        "host_name": lambda: CPU,
        "must_tell_llvm": lambda: True,
    }
    mock.patch.object(llvm, "get_process_triple", lambda: TRIPLE).start()
    mock.patch.multiple(paths, **replaced).start()

    from llorch.kernels.emit import scalars

    mock.patch.object(scalars, "_MACHINE", "aarch64").start()
    mock.patch.object(scalars, "_IS_ARM", True).start()


def assembly(names: list[str]) -> dict[str, str]:
    """The assembly of units by their names; `pretend` comes first.

    Raises:
        ValueError: a name is none of a unit.
    """
    import llorch.model.llama  # noqa: F401
    from llorch.kernels.jit import declared_units

    units = {unit.name: unit for unit in declared_units()}
    unknown = sorted(set(names) - units.keys())
    if unknown:
        raise ValueError(f"no kernel is called {', '.join(unknown)}")
    return {name: units[name].assembly() for name in names}


if __name__ == "__main__":
    pretend(sys.argv[1])
    for text in assembly(sys.argv[2:]).values():
        print(text)
