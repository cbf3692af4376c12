"""What the system says about the features of ARM CPUs; the systems are made up."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from typing import Any

import pytest

from llorch.machine import cpu


class FakeGetauxval:
    """`getauxval` of a CPU with the given bits."""

    restype: Any = None

    def __init__(self, entries: dict[int, int]) -> None:
        self._entries = entries

    def __call__(self, entry: int) -> int:
        return self._entries.get(entry, 0)


class FakeLibrary:
    """The C library of a made-up system; what it is not given it lacks."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        vars(self).update(functions)


def features(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, library: FakeLibrary
) -> dict[str, bool]:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    return dict(cpu.arm_features.__wrapped__())


@pytest.mark.parametrize(
    ("entries", "dotprod", "i8mm"),
    [
        ({16: 0b11}, False, False),
        ({16: 0b11 | 1 << 20}, True, False),
        ({16: 0b11 | 1 << 20, 26: 1 << 13}, True, True),
        ({}, False, False),
    ],
)
def test_linux_tells_features_in_the_auxiliary_vector(
    entries: dict[int, int], dotprod: bool, i8mm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = FakeLibrary(getauxval=FakeGetauxval(entries))
    expected = {"neon": True, "dotprod": dotprod, "i8mm": i8mm}
    assert features(monkeypatch, "linux", "aarch64", library) == expected


def test_macos_tells_features_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def sysctlbyname(name: bytes, value: Any, size: Any, new: None, new_size: int) -> int:
        known = {b"hw.optional.arm.FEAT_DotProd": 1}
        if name not in known:
            return -1
        value._obj.value = known[name]
        return 0

    library = FakeLibrary(sysctlbyname=sysctlbyname)
    expected = {"neon": True, "dotprod": True, "i8mm": False}
    assert features(monkeypatch, "darwin", "arm64", library) == expected


def test_of_a_system_that_does_not_say_neon_alone_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert features(monkeypatch, "freebsd14", "arm64", FakeLibrary()) == {"neon": True}


def test_nothing_is_said_about_other_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary(getauxval=FakeGetauxval({16: -1, 26: -1}))
    assert features(monkeypatch, "linux", "x86_64", library) == {}
