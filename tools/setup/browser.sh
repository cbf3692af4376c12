#!/bin/sh
# Install what the tests of the chat page need: Playwright into the clone's environment, and Chromium by apt, where there
# is none and we may. What cannot be had is said in one line; the tests are then skipped, and say why, too.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.." && pwd -P)
. "$root/tools/setup/environment.sh"
ensure_environment test

if ! "$python" -c "import playwright, axe_playwright_python" 2>/dev/null; then
    # Playwright's own browsers are not downloaded: nothing asks for them.
    "$python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$root/tools/setup/constraints.txt" --editable "$root[browser]" ||
        echo "llorch: Playwright could not be installed; the tests of the chat page will be skipped" >&2
fi

for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
    if [ -n "$name" ] && command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    if timeout 900 apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        chromium fonts-noto-core >/dev/null; then exit 0; fi
fi
echo "llorch: there is no Chromium (CHROMIUM names one); the tests of the chat page will be skipped" >&2
