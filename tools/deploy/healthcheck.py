"""Ends with 0 when the server in this container takes requests, else with 1. Standard library only.

The port is that of `LLORCH_PORT`, else 8080; with `LLORCH_SSL_CERT_FILE` the server is asked by TLS.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys

TIMEOUT_S = 4.0


def is_ready() -> bool:
    """Whether `GET /ready` is answered with 200."""
    port = os.environ.get("LLORCH_PORT", "")
    number = int(port) if port.isdecimal() else 8080  # Kubernetes may say tcp://ADDRESS:PORT
    connection: http.client.HTTPConnection
    if os.environ.get("LLORCH_SSL_CERT_FILE"):
        context = ssl._create_unverified_context()  # its name is not 127.0.0.1
        connection = http.client.HTTPSConnection("127.0.0.1", number, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", number, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready() else 1)
