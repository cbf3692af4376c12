"""Damaged copies of a JSON document, drawn from a seed: other types, hostile numbers, missing and doubled keys."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

HOSTILE_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 2**24, 2**31, 2**32, 2**53, 2**63, 2**64, -(2**63), 10**30, 10**400,
    0.0, -0.0, 0.5, 1.5, -1e-5, 1e-45, 1e-300, 1e39, 1e300, "", "x", "0", "64", "\0", "\n", "\x1b[2J", "\ud800",
    "é", "../x", "/", "x" * 10_000, "F32", "I8", "llama", "silu", "linear", "yarn", "llama3", [], [0], [1, 2], [[]],
    ["x"], [None], [2**62] * 8, {}, {"": 0}, {"a": {"b": 1}}, {"type": "linear"}, {"rope_type": "llama3"}, [{}],
    [{"id": 0}], [["a", "b"]],
]  # fmt: skip

_NEST = "nested lists: "
"""Start of a string in whose place the text has so many lists inside each other."""

Place = tuple[Any, Any]
"""A container and the key or index of a value in it."""


def places(document: Any, limit: int = 2000) -> list[Place]:
    """Where values are, breadth first; of long lists and objects the first, middle and last few."""
    found: list[Place] = []
    waiting = [document]
    for container in waiting:
        if len(found) >= limit:
            break
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        if len(keys) > 60:
            keys = keys[:20] + keys[len(keys) // 2 : len(keys) // 2 + 20] + keys[-20:]
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def _replace(place: Place, others: list[Place], rng: np.random.Generator) -> None:
    place[0][place[1]] = copy.deepcopy(HOSTILE_VALUES[rng.integers(len(HOSTILE_VALUES))])


def _nudge(place: Place, others: list[Place], rng: np.random.Generator) -> None:
    value = place[0][place[1]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        factors = [
            lambda n: n + 1,
            lambda n: n - 1,
            lambda n: -n,
            lambda n: n * 2,
            lambda n: n / 2,
            lambda n: n * 10**9,
        ]
        place[0][place[1]] = factors[rng.integers(len(factors))](value)
    elif isinstance(value, str):
        changed = [value[:-1], value + value[-1:], value.upper(), value[::-1], value + "\0", value * 50]
        place[0][place[1]] = changed[rng.integers(len(changed))]
    else:
        _replace(place, others, rng)


def _remove(place: Place, others: list[Place], rng: np.random.Generator) -> None:
    del place[0][place[1]]


def _swap(place: Place, others: list[Place], rng: np.random.Generator) -> None:
    other = others[rng.integers(len(others))]
    a, b = place[0][place[1]], other[0][other[1]]
    place[0][place[1]], other[0][other[1]] = copy.deepcopy(b), copy.deepcopy(a)


def _repeat(place: Place, others: list[Place], rng: np.random.Generator) -> None:
    container, key = place
    if isinstance(container, list):
        container[key:key] = [copy.deepcopy(container[key])] * int(rng.integers(1, 40))
    else:
        container[f"{key}{rng.integers(10)}"] = copy.deepcopy(container[key])


def _rename(place: Place, others: list[Place], rng: np.random.Generator) -> None:
    container, key = place
    if isinstance(container, dict):
        names = [*container, key[:-1], key + key, "", "\ud800", "\0"]
        container[names[rng.integers(len(names))]] = container.pop(key)


def _nest(place: Place, others: list[Place], rng: np.random.Generator) -> None:
    place[0][place[1]] = f"{_NEST}{rng.choice([1, 2, 60, 900, 5000, 100_000])}"


KINDS: list[Callable[[Place, list[Place], np.random.Generator], None]] = [
    _replace, _replace, _replace, _nudge, _nudge, _remove, _swap, _repeat, _rename, _nest,
]  # fmt: skip


def json_mutants(original: Any, n: int, *, seed: int) -> Iterator[bytes]:
    """`n` damaged copies of a document, each with one to three changes; one in 20 has a key doubled in its text."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        document = copy.deepcopy(original)
        for _ in range(int(rng.integers(1, 4))):
            found = places(document)
            if found:
                KINDS[rng.integers(len(KINDS))](found[rng.integers(len(found))], found, rng)
        yield _text(document, is_doubled=not rng.integers(20))


def _text(document: Any, *, is_doubled: bool) -> bytes:
    text = json.dumps(document)
    text = re.sub(f'"{_NEST}([0-9]+)[^"]*"', lambda match: "[" * int(match[1]) + "]" * int(match[1]), text)
    if is_doubled and (match := re.search('"[^"]*": ', text)):
        text = text.replace(match[0], f"{match[0]}0, {match[0]}", 1)
    return text.encode()
