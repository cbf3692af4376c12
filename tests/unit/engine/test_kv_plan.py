"""How large the KV cache may be."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from llorch.engine import kv_plan
from llorch.engine.kv_plan import SHARE_OF_FREE_MEMORY, plan_kv_cache
from llorch.errors import SettingsError
from llorch.kernels.layout import KV_BLOCK_SIZE
from llorch.kernels.ops.attend_parts import part_bytes
from llorch.model.kv_cache import KVCache
from tests.support.model_configs import SMALLEST

CONFIG = dataclasses.replace(SMALLEST, n_ctx_train=1000)
PER_CONTEXT = -(-1000 // KV_BLOCK_SIZE)


def have_blocks(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Let just `n` blocks fit into the memory, beside what attention takes."""
    n_bytes = int((n + 0.5) * KVCache.bytes_per_block(CONFIG, "f32") / SHARE_OF_FREE_MEMORY)
    n_bytes += part_bytes(CONFIG.n_head, CONFIG.n_head_kv, CONFIG.head_dim)
    monkeypatch.setattr(kv_plan, "available_memory", lambda: n_bytes)


def plan(ctx_size: int, n_parallel: int = 3) -> tuple[int, int]:
    return plan_kv_cache(CONFIG, ctx_size=ctx_size, n_parallel=n_parallel, kv_type="f32")


def test_every_slot_gets_a_full_context(monkeypatch: pytest.MonkeyPatch) -> None:
    have_blocks(monkeypatch, 10**6)
    assert plan(0) == (1000, 3 * PER_CONTEXT)
    assert plan(33) == (33, 3 * 2)
    assert plan(2000) == (2000, 3 * -(-2000 // KV_BLOCK_SIZE))


def test_less_memory_means_fewer_full_contexts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    have_blocks(monkeypatch, PER_CONTEXT + 1)
    assert plan(0) == (1000, PER_CONTEXT + 1)


def test_without_a_wish_the_context_is_what_fits_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    have_blocks(monkeypatch, 5)
    with caplog.at_level(logging.WARNING):
        assert plan(0) == (5 * KV_BLOCK_SIZE, 5)
    assert f"the context is {5 * KV_BLOCK_SIZE} tokens instead of 1000" in caplog.text


def test_a_wish_that_does_not_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    have_blocks(monkeypatch, 5)
    with pytest.raises(SettingsError, match=f"ctx_size 1000 needs .* choose at most {5 * KV_BLOCK_SIZE}"):
        plan(1000)
    have_blocks(monkeypatch, 0)
    with pytest.raises(SettingsError, match="at most 0"):
        plan(0)


def test_a_context_beyond_the_trained_length_is_granted_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    have_blocks(monkeypatch, 10**6)
    with caplog.at_level(logging.WARNING):
        assert plan(1000)[0] == plan(0)[0] == 1000
        assert caplog.messages == []
        assert plan(1001)[0] == 1001
    (message,) = caplog.messages
    assert message.startswith("the context is 1001 tokens, but the model was trained on 1000")
