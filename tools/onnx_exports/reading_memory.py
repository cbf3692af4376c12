"""Memory that reading 200 MB of weights takes: llorch's reader against the `onnx` package.

    python -m tools.onnx_exports.reading_memory

Each reader runs in a process of its own; memory is what the process gained until it held every weight as an array.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

N_TENSORS, SHAPE = 10, (1024, 5120)


def write_models(folder: Path) -> list[Path]:
    """The same model twice: weights inside the file, and in another."""
    import onnx
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(rng.standard_normal(SHAPE, np.float32), f"t{i}") for i in range(N_TENSORS)
    ]
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", infos[:1], infos[1:], tensors
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "inside.onnx")
    onnx.save(model, folder / "outside.onnx", save_as_external_data=True, location="outside.data")
    return [folder / "inside.onnx", folder / "outside.onnx"]


def resident_mb() -> tuple[int, int]:
    """Megabytes of this process: its own, and those of files, which the system may drop."""
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    sizes = {row[0]: int(row[1]) for row in rows if row[0] in ("RssAnon:", "RssFile:")}
    return sizes["RssAnon:"] >> 10, sizes["RssFile:"] >> 10


def measure(reader: str, path: Path) -> None:
    """Read `path` and print what it took."""
    arrays: list[Any]
    if reader == "onnx":
        import onnx
        from onnx import numpy_helper

        before, start = resident_mb(), time.perf_counter()
        model = onnx.load(path)
        arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    else:
        from llorch.formats.onnx.open_graph import read_graph

        before, start = resident_mb(), time.perf_counter()
        opened = read_graph(path)
        arrays = [tensor.values() for tensor in opened.graph.initializers.values()]
    seconds = time.perf_counter() - start
    own, of_files = (b - a for a, b in zip(before, resident_mb(), strict=True))
    total = sum(array.nbytes for array in arrays) >> 20
    print(
        f"{path.name:13} {reader:7} {total} MB of weights: {own} MB own, {of_files} MB of files, {seconds:.2f} s"
    )


def main() -> None:
    """Measure both readers on both models."""
    if len(sys.argv) == 3:
        measure(sys.argv[1], Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for path in write_models(Path(folder)):
            for reader in ("onnx", "llorch"):
                subprocess.run([sys.executable, "-m", __spec__.name, reader, str(path)], check=True)


if __name__ == "__main__":
    main()
