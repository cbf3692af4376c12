"""Certificates for tests, made by the `openssl` program."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Pair:
    """Files of a certificate for localhost and its key."""

    cert: Path
    key: Path

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--ssl-cert-file", str(self.cert), "--ssl-key-file", str(self.key))


def make_pair(folder: Path, name: str, *more: str) -> Pair:
    """A self-signed certificate whose subject is `name`."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl program to make a certificate with")
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *(more or ("-nodes",)))
    names = ("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2")
    command = ["openssl", "req", "-x509", *kind, "-keyout", str(pair.key), "-out", str(pair.cert), *names]
    subprocess.run(command, check=True, capture_output=True)
    return pair
