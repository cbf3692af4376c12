"""Receipts of the answers of one open model."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import fields
from typing import Any

from llorch.engine.events import EndEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.formats.protocol import ModelSource
from llorch.kernels import paths
from llorch.model_files import model_name
from llorch.open_model import OpenModel
from llorch.receipts.canonical import sha256_of
from llorch.receipts.schema import ARITHMETIC, N_RUNNING_DIGITS, RARE, VERSION, with_hash
from llorch.version import __version__


def described_model(source: ModelSource) -> dict[str, Any]:
    """The `model` of receipts; reads the whole file.

    Raises:
        InputError: the file was changed since it was opened, or cannot be read.
    """
    infos = source.tensor_infos.values()
    bytes_by_type: Counter[str] = Counter()
    for info in infos:
        bytes_by_type[info.type_name] += info.n_bytes
    n_bytes, sha256 = source.hashed()
    return {
        "name": model_name(source),
        "sha256": sha256,
        "bytes": n_bytes,
        "tensors": dict(sorted(Counter(info.type_name for info in infos).items())),
        "quantization": max(bytes_by_type, key=lambda name: (bytes_by_type[name], name)),
    }


class Issuer:
    """Writes receipts. Threads may share it."""

    def __init__(self, loaded: OpenModel, n_ctx: int, kv_type: str) -> None:
        """Read the whole file of the model to hash it.

        Args:
            loaded: the model.
            n_ctx: tokens that a sequence may hold.
            kv_type: number type of the KV cache.

        Raises:
            InputError: the file was changed since it was opened, or cannot be read.
        """
        self._model = described_model(loaded.source)
        self._n_ctx = n_ctx
        self._n_vocab = loaded.config.n_vocab
        self._end_ids = sorted(loaded.tokenizer.vocab.eog_ids)
        self._arithmetic = {"revision": ARITHMETIC, "sums": paths.sums(), "kv_type": kv_type}

    def receipt(self, request: Request, end: EndEvent) -> dict[str, Any]:
        """The receipt of a generation that hashed its logits."""
        assert end.logits is not None
        prompt, settings = list(request.token_ids), self._settings(request, end.seed)
        digests = [digest.hex() for digest in end.logits.digests]
        has_end_token = len(end.logits.token_ids) > len(end.token_ids)
        return with_hash(
            {
                "type": "receipt",
                "receipt": VERSION,
                "llorch": __version__,
                "model": self._model,
                "arithmetic": self._arithmetic,
                "prompt": {"token_ids": prompt, "sha256": sha256_of(prompt)},
                "settings": settings,
                "settings_sha256": sha256_of(settings),
                "answer": {
                    "token_ids": list(end.token_ids),
                    "end_token_id": end.logits.token_ids[-1] if has_end_token else None,
                    "finish_reason": end.finish_reason,
                    "matched_stop": end.matched_stop,
                    "timed_out": end.timed_out,
                    "text_sha256": text_sha256(end.text),
                },
                "logits": {
                    "n_rows": len(digests),
                    "n_vocab": self._n_vocab,
                    "sha256": digests[-1] if digests else None,
                    "running": [digest[:N_RUNNING_DIGITS] for digest in digests],
                },
                "circumstances": {
                    "job_id": end.job_id,
                    "kernel_path": paths.path(),
                    "cached_tokens": end.usage.cached_tokens,
                    "drafted_tokens": end.timings.drafted_tokens,
                },
            }
        )

    def _settings(self, request: Request, seed: int) -> dict[str, Any]:
        params = {field.name: getattr(request.params, field.name) for field in fields(SamplingParams)}
        bias = {str(token_id): _number(value) for token_id, value in sorted(params["logit_bias"].items())}
        lists = {name: list(params[name]) for name in ("samplers", "dry_sequence_breakers")}
        settings = {
            **params,
            **lists,
            "min_tokens": request.min_tokens,
            "stop_token_ids": list(request.stop_token_ids),
            "logit_bias": bias,
            "seed": seed,
            "max_tokens": min(request.max_tokens, self._n_ctx - len(request.token_ids)),
            "stop": list(request.stop),
            "ignore_eos": request.ignore_eos,
            "end_ids": self._end_ids,
            "shown_ids": sorted(request.shown_ids),
            "is_constrained": request.constraint is not None,
        }
        return {name: value for name, value in settings.items() if name not in RARE or value != RARE[name]}


def text_sha256(text: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _number(value: float) -> float | str:
    return "-inf" if value == -math.inf else value
