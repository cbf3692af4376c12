"""Says whether the llama.cpp that is installed adds as `LLORCH_SUMS=llama.cpp` does.

    python -m tools.reference.llama_cpp_build

That is the build for AVX2 without llamafile's products (`-DGGML_NATIVE=OFF -DGGML_LLAMAFILE=OFF`). Wider vectors and
llamafile's products add floats in other orders, so their results differ in the last bits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tools.reference.ggml_tensor import ReferenceToolError
from tools.reference.llama_cpp_eval import load_llama_cpp

OTHER_ORDERS = ("AVX512", "LLAMAFILE", "AMX")
"""Features of llama.cpp's `llama_print_system_info` whose products add in another order."""


def adds_in_the_order_we_know(system_info: str) -> bool:
    """Whether a build with these features, as `llama_print_system_info` names them, adds as `LLORCH_SUMS=llama.cpp`."""
    return "AVX2 = 1" in system_info and not any(word in system_info for word in OTHER_ORDERS)


def main(argv: Sequence[str] | None = None) -> int:
    """0 where the installed llama.cpp is the build, 1 where it is another or none."""
    parser = argparse.ArgumentParser(description="Says whether llama.cpp adds as LLORCH_SUMS=llama.cpp does.")
    parser.add_argument("--quiet", action="store_true", help="only the exit code")
    args = parser.parse_args(argv)
    try:
        features = load_llama_cpp().llama_print_system_info().decode().strip(" |\n")
    except ReferenceToolError as error:
        answer, code = str(error), 1
    else:
        known = adds_in_the_order_we_know(features)
        order = "the order of" if known else "another order than"
        answer, code = f"llama.cpp adds in {order} LLORCH_SUMS=llama.cpp: {features}", 0 if known else 1
    if not args.quiet:
        print(answer, file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
