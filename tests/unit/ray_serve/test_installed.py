"""What is said where Ray is absent or too old."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import PackageNotFoundError

import pytest

from llorch.ray_serve import installed


def test_absent_ray_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installed, "version", absent)
    with pytest.raises(
        ImportError, match=r"needs Ray Serve 2\.56 .* Ray is not installed: pip install 'llorch\[ray\]'"
    ):
        from llorch.ray_serve import build_app  # noqa: F401


@pytest.mark.parametrize("found", ["2.9.3", "2.55.1", "1.99"])
def test_old_ray_is_named_with_its_version(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "version", lambda name: found)
    with pytest.raises(ImportError, match=f"2.56 or newer, and Ray {found} is installed"):
        installed.check_ray()


def test_ray_without_serve_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        importlib.metadata.version("ray")
    except PackageNotFoundError:
        monkeypatch.setattr(installed, "version", lambda name: "3.0.0")
        with pytest.raises(ImportError, match=r"Ray 3\.0\.0 is installed without it"):
            installed.check_ray()
