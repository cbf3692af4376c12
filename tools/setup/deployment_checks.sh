#!/bin/sh
# Install what the tests ask about the files of tools/deploy: kubernetes-validate, which has Kubernetes' schemas, and the
# promtool of Debian's prometheus, without its service; both into the clone's environment. What cannot be had is said in
# one line; the tests are then skipped, and say why, too.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.." && pwd -P)
. "$root/tools/setup/environment.sh"
ensure_environment test

if ! "$python" -c "import kubernetes_validate" 2>/dev/null; then
    "$python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$root/tools/setup/constraints.txt" kubernetes-validate==1.37.0 ||
        echo "llorch: kubernetes-validate could not be installed; the tests that ask it will be skipped" >&2
fi

if command -v promtool >/dev/null || [ -x "$venv/bin/promtool" ]; then exit 0; fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # The package is taken apart, not installed: it would start a Prometheus. As _apt, apt could not write there.
    if (cd "$scratch" && timeout 300 apt-get update -qq && timeout 300 apt-get download -qq -o APT::Sandbox::User=root prometheus &&
        dpkg-deb --extract prometheus_*.deb . && cp usr/bin/promtool "$venv/bin/promtool") >/dev/null 2>&1; then exit 0; fi
fi
echo "llorch: there is no promtool; the tests that ask it will be skipped" >&2
