"""The virtual environment of the clients: made once, kept beside the clone.

    python -m tools.conformance.environment           make it with the versions of constraints.txt
    python -m tools.conformance.environment --lock    make it with the newest versions and write constraints.txt

`.venv-conformance` in the clone (CONFORMANCE_VENV overrides). No client needs PyTorch, and none is installed.
"""

from __future__ import annotations

import sys

from tools.setup.own_environment import OwnEnvironment

ENVIRONMENT = OwnEnvironment("conformance", "tools.conformance")

if __name__ == "__main__":
    sys.exit(ENVIRONMENT.main(sys.argv[1:]))
