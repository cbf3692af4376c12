"""The virtual environment with Ray Serve and what llorch needs: made once, kept beside the clone.

    python -m tools.ray_cluster.environment           make it with the versions of constraints.txt
    python -m tools.ray_cluster.environment --lock    make it with the newest versions and write constraints.txt

`.venv-ray` in the clone (RAY_VENV overrides). llorch itself is not installed: who runs it there puts the clone on
PYTHONPATH. What llorch needs has the versions that the other tests run with, so that answers can be compared.
"""

from __future__ import annotations

import sys

from tools.setup.lock import CONSTRAINTS
from tools.setup.own_environment import OwnEnvironment

ENVIRONMENT = OwnEnvironment("ray", "tools.ray_cluster")

if __name__ == "__main__":
    sys.exit(ENVIRONMENT.main(sys.argv[1:], CONSTRAINTS))
