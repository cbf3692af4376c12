# Sourced by scripts that have set $root, the clone: `ensure_environment EXTRA` makes $python run llorch.
#
# The environment is `.venv` in the clone (LLORCH_VENV overrides), made on first use by any Python >= 3.11
# (LLORCH_PYTHON overrides), with the versions of constraints.txt (LLORCH_NEWEST=1: the newest ones instead;
# LLORCH_LOWEST=1: the lowest ones that pyproject.toml allows). When nothing has to be done this costs two small processes; all the work is in install.py. Messages go to stderr, so
# that a command's output stays clean.

venv=${LLORCH_VENV:-$root/.venv}
python=$venv/bin/python

# find_python: print a CPython in the supported range that can make environments.
find_python() {
    for candidate in ${LLORCH_PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
        if "$candidate" -c 'import ensurepip, sys, venv
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14) or sys.implementation.name != "cpython")' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# explain_no_python: say what is missing, and exit with the code for bad input.
explain_no_python() {
    {
        echo "llorch: needs CPython 3.11 to 3.14 with its venv module; none was found here:"
        for candidate in ${LLORCH_PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
            "$candidate" -c 'import sys
version = "%d.%d.%d" % sys.version_info[:3]
try:
    import ensurepip, venv
    lack = "" if (3, 11) <= sys.version_info[:2] <= (3, 14) else ", outside the range"
except ImportError:
    lack = ", without venv (Debian, Ubuntu: apt install python%d.%d-venv)" % sys.version_info[:2]
sys.stdout.write("  %s: Python %s%s\n" % (sys.executable, version, lack))' 2>/dev/null || true
        done
        echo "Install one (https://www.python.org/downloads/), or name it: LLORCH_PYTHON=/path/to/python3"
    } >&2
    exit 2
}

# ensure_environment EXTRA: `base` for the product alone, `test` for its tests too.
ensure_environment() {
    stamp=$venv/llorch-$1.stamp
    # What the tests need includes what the product needs.
    if [ "$1" = base ] && [ ! -f "$stamp" ]; then stamp=$venv/llorch-test.stamp; fi
    if [ -x "$python" ] && [ -f "$stamp" ] && [ ! -e "$venv/llorch-installing" ]; then
        # The stamp is what install.py was given: a moved clone, or a change to one of the files, installs again.
        versions=$root/tools/setup/constraints.txt
        lowest=
        if [ "${LLORCH_LOWEST:-}" = 1 ]; then lowest=lowest; fi
        if [ "${LLORCH_NEWEST:-}${LLORCH_LOWEST:-}" = 1 ]; then versions=; fi
        if { printf '%s\n' "$root" ${lowest:+"$lowest"}; cat "$root/pyproject.toml" ${versions:+"$versions"}; } | cmp -s - "$stamp"; then
            return 0
        fi
    fi
    base_python=$(find_python) || explain_no_python
    "$base_python" "$root/tools/setup/install.py" "$root" "$venv" "$1" || exit $?
}
