"""The prefix cache on disk: found after a restart, and whatever is wrong with it costs time and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.disk_store import identity_of
from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.model.kv_cache import KVCache
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.generations import end_of, run
from tests.support.tiny_models import write_tiny_llama

N_PROMPT = 101
IN_BLOCKS = 96


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        yield loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def request(owner: str = "") -> Request:
    params = SamplingParams(seed=1, temperature=1)
    return Request("a", tuple(5 + i % 90 for i in range(N_PROMPT)), params, 8, ignore_eos=True, owner=owner)


def generate(loaded: OpenModel, folder: Path | None, owner: str = "", **settings: Any) -> EndEvent:
    """The end of the request, on an engine that is started for it and closed behind it."""
    directory = None if folder is None else str(folder)
    engine = Engine(loaded, Settings(parallel=1, ctx_size=128, prefix_cache_dir=directory, **settings))
    with contextlib.closing(engine):
        end = end_of(run(engine, request(owner))["a"])
        assert engine.block_pool.n_free == engine.block_pool.n_blocks
    return end


@pytest.fixture(scope="module")
def expected(loaded: OpenModel) -> tuple[int, ...]:
    return generate(loaded, None).token_ids


def check(end: EndEvent, expected: tuple[int, ...], n_cached: int) -> None:
    assert (end.token_ids, end.usage.cached_tokens) == (expected, n_cached)


def test_a_prefix_is_found_after_a_restart_with_the_same_bits(
    loaded: OpenModel, folder: Path, expected: tuple[int, ...]
) -> None:
    check(generate(loaded, folder), expected, 0)
    assert folder.stat().st_mode & 0o077 == 0
    check(generate(loaded, folder), expected, IN_BLOCKS)
    check(generate(loaded, folder, owner="other"), expected, 0)


def test_the_folder_tells_no_name_of_an_owner(loaded: OpenModel, folder: Path) -> None:
    generate(loaded, folder, owner="secret-name")
    for path in folder.glob("*/*"):
        assert b"secret" not in bytes(path) + path.read_bytes()


def test_without_a_prefix_cache_nothing_is_kept(loaded: OpenModel, folder: Path) -> None:
    generate(loaded, folder, prefix_cache=False)
    assert not folder.exists()


def test_a_damaged_file_is_computed_again_and_replaced(
    loaded: OpenModel, folder: Path, expected: tuple[int, ...]
) -> None:
    generate(loaded, folder)
    found = []
    for path in sorted(folder.glob("*/*.kv")):
        whole = path.read_bytes()
        content = bytearray(whole)
        content[-100] ^= 4
        path.write_bytes(content)
        end = generate(loaded, folder)
        found.append(end.usage.cached_tokens)
        check(end, expected, found[-1])
        assert path.read_bytes() == whole
    assert max(found) < IN_BLOCKS  # blocks behind the damaged one may be found again
    check(generate(loaded, folder), expected, IN_BLOCKS)


def test_blocks_of_another_model_or_type_are_not_found(
    loaded: OpenModel, folder: Path, tmp_path: Path, expected: tuple[int, ...]
) -> None:
    generate(loaded, folder)
    write_tiny_llama(tmp_path / "other.gguf", seed=7)
    with open_configured(Settings(model=str(tmp_path / "other.gguf"), threads=1)) as other:
        assert other.config == loaded.config
        check(generate(other, folder), generate(other, None).token_ids, 0)
    check(generate(loaded, folder, kv_type="f32"), generate(loaded, None, kv_type="f32").token_ids, 0)
    check(generate(loaded, folder), expected, IN_BLOCKS)


def test_what_decides_the_bits_decides_the_identity(loaded: OpenModel) -> None:
    f16, f32 = (KVCache(loaded.config, 1, kv_type) for kv_type in ("f16", "f32"))
    scaled = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, rope_freq_base=5.0))
    identities = [identity_of(loaded, f16), identity_of(loaded, f32), identity_of(scaled, f16)]
    assert len(set(identities)) == 3
    assert identity_of(loaded, KVCache(loaded.config, 2, "f16")) == identities[0]


def test_a_folder_that_cannot_be_used_costs_one_line(
    loaded: OpenModel, tmp_path: Path, expected: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name, reason in (("file/below", "Not a directory"), ("open", "others can write to it")):
        caplog.clear()
        check(generate(loaded, tmp_path / name), expected, 0)
        (message,) = caplog.messages
        assert message.startswith(f"prefix_cache_dir: {tmp_path / name} cannot be used (")
        assert reason in message


def test_a_full_disk_costs_one_line(
    loaded: OpenModel, folder: Path, expected: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with caplog.at_level(logging.WARNING):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            check(generate(loaded, folder), expected, 0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (message,) = caplog.messages
    assert message.startswith("prefix cache on disk: cannot be written (File too large)")
    assert not list(folder.glob("*/*"))


def test_a_folder_that_disappears_costs_one_line(
    loaded: OpenModel, folder: Path, expected: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(loaded, Settings(parallel=1, ctx_size=128, prefix_cache_dir=str(folder)))
    (identity,) = folder.iterdir()
    identity.rmdir()
    check(end_of(run(engine, request())["a"]), expected, 0)
    engine.close()
    engine.close()
    (message,) = caplog.messages
    assert "No such file or directory" in message


def test_a_dropped_engine_leaves_no_thread_and_has_written_everything(
    loaded: OpenModel, folder: Path, expected: tuple[int, ...]
) -> None:
    engine = Engine(loaded, Settings(parallel=1, ctx_size=128, prefix_cache_dir=str(folder)))
    run(engine, request())
    assert "llorch-block-writer" in {thread.name for thread in threading.enumerate()}
    del engine
    assert "llorch-block-writer" not in {thread.name for thread in threading.enumerate()}
    check(generate(loaded, folder), expected, IN_BLOCKS)


def test_the_folder_stays_below_its_size(
    loaded: OpenModel, folder: Path, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(loaded, folder)
    n_bytes = sum(path.stat().st_size for path in folder.glob("*/*"))
    big = [folder / name / f"{i:064x}.kv" for i in range(3) for name in (f"{1:032x}",)]
    big[0].parent.mkdir()
    for path in big:
        with path.open("wb") as file:
            file.truncate(600 << 10)
    other = Request("a", tuple(range(200, 200 + N_PROMPT)), SamplingParams(), 2)
    engine = Engine(
        loaded, Settings(parallel=1, ctx_size=128, prefix_cache_dir=str(folder), prefix_cache_dir_mib=1)
    )
    run(engine, other)
    engine.close()
    assert sum(path.stat().st_size for path in folder.glob("*/*")) <= 1 << 20
    assert n_bytes < 600 << 10
