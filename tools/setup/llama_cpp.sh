#!/bin/sh
# Compile llama.cpp, which comes as source only, for the tests with `-m reference`, into the clone's environment: for AVX2
# and without llamafile's products, the build whose additions LLORCH_SUMS=llama.cpp repeats. pip does not know the flags
# of the wheels that it keeps, so it neither looks there nor leaves a library of another build in place.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.." && pwd -P)
. "$root/tools/setup/environment.sh"
ensure_environment test
cd "$root"

is_that_build() { "$python" -m tools.reference.llama_cpp_build "$@"; }

if is_that_build --quiet; then exit 0; fi
"$python" -m pip uninstall --quiet --yes llama-cpp-python 2>/dev/null # another build, if any
CMAKE_ARGS="${CMAKE_ARGS:-} -DGGML_NATIVE=OFF -DGGML_LLAMAFILE=OFF" "$python" -m pip install --quiet --disable-pip-version-check \
    --no-cache-dir --no-binary llama-cpp-python --constraint tools/setup/constraints.txt --editable ".[reference]"
is_that_build
