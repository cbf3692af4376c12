"""How long a generation took, and how far its prompt has been read, in llama-server's words."""

from __future__ import annotations

from llorch.engine.events import ProgressEvent, Timings, Usage


def timings_json(usage: Usage, timings: Timings) -> dict[str, float]:
    """Durations in milliseconds, and speeds; nothing is null or infinite.

    Source: llama.cpp tools/server, `timings`. A generation of n tokens takes n - 1 steps after its prompt.
    """
    n_prompt = usage.prompt_tokens - usage.cached_tokens
    prompt_ms, predicted_ms = timings.prompt_s * 1000, timings.decode_s * 1000
    report: dict[str, float] = {
        "cache_n": usage.cached_tokens,
        "prompt_n": n_prompt,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / max(n_prompt, 1),
        "prompt_per_second": timings.prompt_tokens_per_s,
        "predicted_n": usage.completion_tokens,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_ms / max(usage.completion_tokens - 1, 1),
        "predicted_per_second": timings.decode_tokens_per_s,
    }
    if timings.drafted_tokens:
        report |= {"draft_n": timings.drafted_tokens, "draft_n_accepted": timings.accepted_tokens}
    return report


def progress_json(progress: ProgressEvent) -> dict[str, float]:
    """How much of a prompt has been read; what was cached counts as read."""
    return {
        "total": progress.n_prompt,
        "cache": progress.n_cached,
        "processed": progress.n_computed,
        "time_ms": round(progress.elapsed_s * 1000),
    }
