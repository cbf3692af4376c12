"""`schemathesis` against `/openapi.json`: the schema says what the server does, and no request makes it fail."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.conformance.checks import Check, Target, expect, main

MAX_EXAMPLES = 8
"""Per operation and phase."""
MAX_S = 260
CONFIG = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]
"""
"""504 is what whoever asks for an answer within a microsecond gets, and no failure of the server."""


def conformance(target: Target) -> None:
    """No finding of any check, in what the schema allows and in what it forbids."""
    words = ["run", f"{target.url}/openapi.json", "--header", f"Authorization: Bearer {target.key}"]
    words += ["--max-examples", str(MAX_EXAMPLES), "--seed", "1", "--no-shrink", "--warnings", "off"]
    words += ["--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--request-timeout", "60"]
    words += ["--suppress-health-check", "all", "--generation-database", ":memory:", "--no-color"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "schemathesis.toml").write_text(CONFIG)
        done = subprocess.run(
            [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", *words],
            env=os.environ | {"HOME": folder},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MAX_S,
        )
    expect(done.returncode == 0, f"schemathesis ended with {done.returncode}:\n{done.stdout}")
    print("\n".join(f"             {line}" for line in done.stdout.splitlines()[-8:] if line.strip()))


CHECKS: list[Check] = [conformance]

if __name__ == "__main__":
    main(CHECKS)
