"""Receipts of an engine of this process, and forgers of receipts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from llorch.engine.engine import Engine
from llorch.engine.request import Request
from llorch.open_model import OpenModel
from llorch.receipts.canonical import sha256_of
from llorch.receipts.issue import Issuer
from llorch.receipts.outcome import Outcome
from llorch.receipts.schema import parse_receipt, with_hash
from llorch.receipts.verify import verify
from llorch.settings import Settings
from tests.support.generations import end_of, run


def receipts(loaded: OpenModel, engine: Engine, *requests: Request) -> list[dict[str, Any]]:
    """Receipts of requests that run side by side."""
    issuer = Issuer(loaded, engine.n_ctx, engine.kv_cache.kv_type)
    events = run(engine, *requests)
    return [issuer.receipt(request, end_of(events[request.job_id])) for request in requests]


def altered(receipt: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """A receipt of which one member, by its dotted path, has another value, or is added; nothing else is changed."""
    changed = copy.deepcopy(receipt)
    *parts, last = place.split(".")
    holder = changed
    for part in parts:
        holder = holder[part]
    assert last not in holder or holder[last] != value
    holder[last] = value
    return changed


def rehashed(receipt: dict[str, Any]) -> dict[str, Any]:
    """A receipt whose own hashes hold, as a forger makes them."""
    prompt = {**receipt["prompt"], "sha256": sha256_of(receipt["prompt"]["token_ids"])}
    return with_hash({**receipt, "prompt": prompt, "settings_sha256": sha256_of(receipt["settings"])})


def verified(receipt: dict[str, Any], model: Path, **settings: Any) -> Outcome:
    """What is found of a receipt, wherever it came from."""
    rest = {name: value for name, value in receipt.items() if name != "sha256"}
    is_intact = sha256_of(rest) == receipt["sha256"]
    settings = {"threads": 1, "weights": "mapped", **settings}
    return verify(parse_receipt(receipt, "receipt"), is_intact, model, Settings(**settings))
