#!/usr/bin/env python3
"""Write the F32 twin of a GGUF file: the same metadata, the same weights, dequantised to float32.

    python -m tools.reference.make_f32_twin MODEL.gguf TWIN.gguf

On the twin neither engine rounds activations to int8, so every difference between them shows.
The weights are expanded by the `gguf` package, tensor by tensor; only `general.file_type` differs in the
metadata. The result depends on the model and on the version of the package only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

FILE_TYPE_ALL_F32 = 0


class TwinError(Exception):
    """The model cannot be turned into an F32 file."""


@dataclass(frozen=True)
class Twin:
    """Description of the file that was written.

    Attributes:
        file: name of the twin's file.
        sha256: hash of the whole file.
        bytes: its size.
        weights_sha256: hash over the weights alone: for each tensor, by name, the name in UTF-8, then its
            float32 values little-endian in row-major order. It can be computed from the source model with any
            exact dequantiser, without the twin's file.
        gguf_package: version of the package that expanded the weights.
    """

    file: str
    sha256: str
    bytes: int
    weights_sha256: str
    gguf_package: str


def _reader(path: Path) -> Any:
    """Open a GGUF file with the `gguf` package."""
    try:
        import gguf
    except ImportError:
        raise TwinError("the gguf package is missing; pip install 'llorch[reference]'") from None
    if not path.is_file():
        raise TwinError(f"{path}: no such file")
    try:
        reader = gguf.GGUFReader(path)
    except Exception as error:  # the package raises many types on malformed files
        raise TwinError(f"{path}: the gguf package cannot read it ({error})") from None
    if "split.count" in reader.fields and int(reader.fields["split.count"].contents()) > 1:
        raise TwinError(f"{path} is one part of a split model; merge the parts first")
    return reader


def weight_types(path: Path) -> dict[str, int]:
    """How many tensors of each type the file holds, e.g. ``{"F32": 11, "Q8_0": 37}``, sorted by name."""
    names = [tensor.tensor_type.name for tensor in _reader(path).tensors]
    return {name: names.count(name) for name in sorted(set(names))}


def tensor_names(path: Path) -> list[str]:
    """Names of the tensors that the file holds."""
    return [tensor.name for tensor in _reader(path).tensors]


def make_f32_twin(source: Path, target: Path) -> Twin:
    """Write `target`, replacing it whole when it exists.

    Raises:
        TwinError: the source is no readable GGUF file, is split, or has a type the package cannot expand.
    """
    import gguf

    reader = _reader(source)
    architecture = reader.fields["general.architecture"].contents()
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    writer = gguf.GGUFWriter(partial, architecture, endianess=reader.endianess)
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue  # the writer adds these itself
        value_type = field.types[0]
        sub_type = field.types[-1] if value_type == gguf.GGUFValueType.ARRAY else None
        value = FILE_TYPE_ALL_F32 if field.name == "general.file_type" else field.contents()
        writer.add_key_value(field.name, value, value_type, sub_type=sub_type)
    for tensor in reader.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), 4 * int(np.prod(shape)))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in reader.tensors:
            writer.write_tensor_data(_expand(tensor))
        writer.close()
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    weights = hashlib.sha256()
    for tensor in sorted(reader.tensors, key=lambda t: t.name):
        weights.update(tensor.name.encode())
        weights.update(_expand(tensor).astype("<f4", copy=False).data)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Twin(target.name, digest, target.stat().st_size, weights.hexdigest(), _gguf_version())


def _expand(tensor: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One tensor as float32 [..., n_in], row-major and contiguous."""
    import gguf

    try:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError:
        raise TwinError(f"tensor {tensor.name}: no float32 expansion of {tensor.tensor_type.name}") from None
    shape = tuple(int(n) for n in reversed(tensor.shape))
    return np.ascontiguousarray(values, np.float32).reshape(shape)


def _gguf_version() -> str:
    from importlib.metadata import version

    return version("gguf")


def main(argv: list[str] | None = None) -> int:
    """Command line; prints what was written as JSON and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="GGUF file of any type mix")
    parser.add_argument("twin", type=Path, help="F32 GGUF file to write")
    args = parser.parse_args(argv)
    try:
        print(json.dumps(asdict(make_f32_twin(args.model, args.twin)), indent=1))
    except (TwinError, OSError) as error:
        print(f"make_f32_twin: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
