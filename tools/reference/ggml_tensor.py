"""A ctypes mirror of ggml's tensor record, checked against the loaded library before use.

llama.cpp's evaluation callback passes a bare pointer to a ``ggml_tensor``. This module reads it: op,
name, sources, strides, data. `GgmlLibrary` builds small tensors through the library's own functions first and
compares every field that is used here, so a changed layout gives an error, not wrong numbers.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

N_DIMS = 4
N_SRC = 10
OBJECT_OVERHEAD = 32  # bytes of the list node that ggml puts before each tensor
TYPE_F32 = 0


class ReferenceToolError(Exception):
    """llama.cpp, the model or the arguments make a reference impossible."""


class GgmlTensor(ctypes.Structure):
    """``struct ggml_tensor`` of ggml.h (ggml 0.25): `ne` elements, `nb` bytes, fastest dimension first."""


GgmlTensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * N_DIMS),
    ("nb", ctypes.c_size_t * N_DIMS),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(GgmlTensor) * N_SRC),
    ("view_src", ctypes.POINTER(GgmlTensor)),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]
TensorPointer = ctypes.POINTER(GgmlTensor)


class _InitParams(ctypes.Structure):
    """``struct ggml_init_params``."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class GgmlLibrary:
    """ggml's own functions: names of ops and types, and reading of tensors on the CPU.

    Args:
        llama: the loaded llama library; on POSIX its symbol lookup reaches the libggml-base that it uses.
        directory: folder of that library; on other systems ggml-base is opened from there.

    Raises:
        ReferenceToolError: a function is missing, or the tensor layout is not the one mirrored here.
    """

    def __init__(self, llama: ctypes.CDLL, directory: Path) -> None:
        self.directory = directory
        self._lib = ctypes.CDLL(str(directory / "ggml-base.dll")) if sys.platform == "win32" else llama
        for function, result, arguments in (
            ("ggml_op_name", ctypes.c_char_p, [ctypes.c_int]),
            ("ggml_type_name", ctypes.c_char_p, [ctypes.c_int]),
            ("ggml_version", ctypes.c_char_p, []),
            ("ggml_commit", ctypes.c_char_p, []),
            ("ggml_tensor_overhead", ctypes.c_size_t, []),
            ("ggml_nbytes", ctypes.c_size_t, [TensorPointer]),
            ("ggml_get_data", ctypes.c_void_p, [TensorPointer]),
            ("ggml_set_name", TensorPointer, [TensorPointer, ctypes.c_char_p]),
            ("ggml_init", ctypes.c_void_p, [_InitParams]),
            ("ggml_free", None, [ctypes.c_void_p]),
            ("ggml_new_tensor_2d", TensorPointer, [ctypes.c_void_p, ctypes.c_int] + [ctypes.c_int64] * 2),
            ("ggml_mul_mat", TensorPointer, [ctypes.c_void_p, TensorPointer, TensorPointer]),
            (
                "ggml_view_1d",
                TensorPointer,
                [ctypes.c_void_p, TensorPointer, ctypes.c_int64, ctypes.c_size_t],
            ),
        ):
            try:
                bound = getattr(self._lib, function)
            except AttributeError:
                raise ReferenceToolError(f"the library in {directory} lacks {function}") from None
            bound.restype, bound.argtypes = result, arguments
        self._check_layout()

    @property
    def version(self) -> str:
        """ggml's own version string."""
        return str(self._lib.ggml_version().decode())

    @property
    def commit(self) -> str:
        """Commit of the source tree that the library was built from, as compiled in."""
        return str(self._lib.ggml_commit().decode())

    def op_name(self, tensor: GgmlTensor) -> str:
        """Name of the tensor's op, e.g. ``"MUL_MAT"``; ``"NONE"`` for weights and inputs."""
        return str(self._lib.ggml_op_name(tensor.op).decode())

    def type_name(self, tensor: GgmlTensor) -> str:
        """Name of the tensor's element type, e.g. ``"q8_0"``."""
        return str(self._lib.ggml_type_name(tensor.type).decode())

    def read_f32(self, tensor: GgmlTensor) -> NDArray[np.float32]:
        """Copy a computed tensor.

        Returns:
            float32 array, row-major, slowest dimension first; leading dimensions of 1 dropped down to two.

        Raises:
            ReferenceToolError: it is not float32, not contiguous, or without data of the right size.
        """
        name = tensor.name.decode(errors="replace")
        ne, nb = list(tensor.ne), list(tensor.nb)
        if tensor.type != TYPE_F32:
            raise ReferenceToolError(f"node {name} is {self.type_name(tensor)}, expected f32")
        expected, stride = [], 4
        for count in ne:
            expected.append(stride)
            stride *= count
        if nb != expected:
            raise ReferenceToolError(
                f"node {name} is not contiguous: ne {ne}, nb {nb}, expected nb {expected}"
            )
        n_bytes = int(self._lib.ggml_nbytes(ctypes.byref(tensor)))
        if n_bytes != stride or not tensor.data:
            raise ReferenceToolError(
                f"node {name} has {n_bytes} bytes, expected {stride}, data {tensor.data}"
            )
        flat = np.frombuffer(ctypes.string_at(tensor.data, n_bytes), np.float32)
        shape = ne[::-1]
        while len(shape) > 2 and shape[0] == 1:
            shape = shape[1:]
        return flat.reshape(shape)

    def _check_layout(self) -> None:
        """Build two tensors, a product and a view through the library and compare every mirrored field."""
        overhead = int(self._lib.ggml_tensor_overhead())
        expected = OBJECT_OVERHEAD + ctypes.sizeof(GgmlTensor)
        problems = [] if overhead == expected else [f"size {overhead}, expected {expected}"]
        context = self._lib.ggml_init(_InitParams(1 << 20, None, False))
        if not context:
            raise ReferenceToolError("ggml_init failed")
        try:
            if not problems:
                problems += self._field_problems(context)
        finally:
            self._lib.ggml_free(context)
        if problems:
            raise ReferenceToolError(
                f"ggml {self.version} ({self.commit}) has another tensor layout than the one mirrored in "
                f"{Path(__file__).name}: {'; '.join(problems)}"
            )

    def _field_problems(self, context: int) -> list[str]:
        lib = self._lib
        a = lib.ggml_new_tensor_2d(context, TYPE_F32, 6, 3)
        b = lib.ggml_new_tensor_2d(context, TYPE_F32, 6, 5)
        lib.ggml_set_name(a, b"layout-check")
        product = lib.ggml_mul_mat(context, a, b)
        view = lib.ggml_view_1d(context, b, 4, 24)
        at = ctypes.addressof
        checks = {
            "type": a.contents.type == TYPE_F32,
            "ne": list(a.contents.ne) == [6, 3, 1, 1],
            "nb": list(a.contents.nb) == [4, 24, 72, 72],
            "name": a.contents.name == b"layout-check",
            "data": a.contents.data == lib.ggml_get_data(a),
            "no op": self.op_name(a.contents) == "NONE",
            "op": self.op_name(product.contents) == "MUL_MAT",
            "src": bool(product.contents.src[0])
            and at(product.contents.src[0].contents) == at(a.contents)
            and at(product.contents.src[1].contents) == at(b.contents),
            "src end": not product.contents.src[2] and not product.contents.src[N_SRC - 1],
            "view_src": bool(view.contents.view_src)
            and at(view.contents.view_src.contents) == at(b.contents),
            "view_offs": view.contents.view_offs == 24,
            "view data": view.contents.data == b.contents.data + 24,
        }
        return [f"field check {name!r} failed" for name, passed in checks.items() if not passed]
