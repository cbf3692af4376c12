"""The disk cache of machine code: where it is, what it is named after, and that a damaged entry is only a miss."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llorch.kernels import object_cache, paths
from llorch.kernels.object_cache import Code
from tests.support.processes import run_python

CODE = Code("symbol", bytes(range(256)) * 20)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a cache that is empty and this test's own."""
    monkeypatch.setenv("LLORCH_CACHE_DIR", str(tmp_path))
    for cached in (object_cache.directory, object_cache._warn_once):
        cached.cache_clear()
    folder = object_cache.directory()
    assert folder is not None
    yield folder
    monkeypatch.undo()
    for cached in (object_cache.directory, object_cache._warn_once):
        cached.cache_clear()


def test_the_cache_lies_where_the_environment_says_and_belongs_to_the_user_alone(
    cache: Path, tmp_path: Path
) -> None:
    assert cache == tmp_path / "kernels" / object_cache.cache_key()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_without_the_variable_it_lies_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LLORCH_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert object_cache.cache_root() in (
        tmp_path / ".cache" / "llorch",
        tmp_path / "Library" / "Caches" / "llorch",
    )
    if sys.platform != "darwin":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert object_cache.cache_root() == tmp_path / "xdg" / "llorch"


def test_without_a_safe_folder_kernels_are_compiled_for_this_process_and_one_warning_says_so(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o777)
    code = """
import logging
logging.basicConfig(format="%(message)s")
from llorch.kernels import object_cache
from llorch.kernels.team import set_field, exchange_zero
import numpy as np
value = np.zeros(1, np.int64)
set_field(value.ctypes.data, 7)
print(object_cache.directory(), exchange_zero(value.ctypes.data), value[0])
"""
    assert run_python(code, tmp_path, LLORCH_CACHE_DIR=str(tmp_path)) == ["None 7 0"]
    assert not list(tmp_path.rglob("*.o"))


def test_the_key_changes_with_every_kernel_source_and_cpu_feature(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = Path(object_cache.__file__).parent
    copy = tmp_path / "kernels"
    for path in sources.rglob("*.py"):
        target = copy / path.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    usual = object_cache.cache_key()
    monkeypatch.setattr(object_cache, "__file__", str(copy / "object_cache.py"))
    assert object_cache.cache_key() == usual
    keys = {usual}
    for path in sorted(copy.rglob("*.py")):
        content = path.read_bytes()
        path.write_bytes(content + b"#")
        keys.add(object_cache.cache_key())
        path.write_bytes(content)
    assert len(keys) == 1 + len(list(copy.rglob("*.py")))
    monkeypatch.setattr(paths, "features", lambda: frozenset({"one", "feature"}))
    keys.add(object_cache.cache_key())
    monkeypatch.setattr(paths, "host_name", lambda: "another")
    keys.add(object_cache.cache_key())
    monkeypatch.setattr(object_cache, "__version__", "0.0.0")
    keys.add(object_cache.cache_key())
    assert len(keys) == 4 + len(list(copy.rglob("*.py")))


def test_what_is_written_is_read_again(cache: Path) -> None:
    assert object_cache.read("unit") is None
    object_cache.write("unit", CODE)
    assert object_cache.read("unit") == CODE
    assert [path.name for path in cache.iterdir()] == ["unit.o"]


def flip_a_bit(content: bytes) -> bytes:
    return content[:-100] + bytes([content[-100] ^ 4]) + content[-99:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:20],
        flip_a_bit,
        lambda content: content + b"x",
        lambda content: bytes(len(content)),
        lambda content: b"[" * 100_000,
        lambda content: b"{}\n" + content,
        lambda content: b"symbol " + content.split()[1][:-1] + b"\n" + CODE.data,
        lambda content: b"\xff\xfe" + content,
    ],
    ids=["empty", "cut", "cut in the header", "a flipped bit", "a byte more", "zeros", "no line", "a line more",
         "another hash", "no text"],
)  # fmt: skip
def test_a_damaged_entry_is_a_miss_and_is_replaced(cache: Path, damage: Callable[[bytes], bytes]) -> None:
    object_cache.write("unit", CODE)
    entry = cache / "unit.o"
    entry.write_bytes(damage(entry.read_bytes()))
    assert object_cache.read("unit") is None
    object_cache.write("unit", CODE)
    assert object_cache.read("unit") == CODE


def test_an_entry_that_is_no_file_is_a_miss(cache: Path) -> None:
    (cache / "unit.o").mkdir()
    assert object_cache.read("unit") is None


def test_a_full_disk_costs_one_warning_and_leaves_nothing_half_written(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    with caplog.at_level(logging.WARNING):
        object_cache.write("unit", CODE)
        object_cache.write("other", CODE)
    assert list(cache.iterdir()) == []
    (record,) = caplog.records
    assert str(cache) in record.getMessage()
    assert "LLORCH_CACHE_DIR" in record.getMessage()
    assert "No space left" in record.getMessage()
