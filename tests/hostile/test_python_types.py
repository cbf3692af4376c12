"""Values of the wrong type at the doors of the Python API: each is refused by name, and nobody else notices."""

from __future__ import annotations

import json
import math
import threading
from collections import UserDict, deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llorch
from llorch.engine.engine import Engine
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.errors import InputError, RequestError, SettingsError
from llorch.settings import Settings
from tests.support.services import do, running, stream

SECRET = "my secret prompt"


class Indexable:
    """An integer to `operator.index` and to nobody else."""

    def __index__(self) -> int:
        return 5


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Iterator[llorch.Model]:
    with llorch.load(tiny_model, threads=1, ctx_size=64) as model:
        yield model


BAD_PROMPTS: dict[str, Any] = {
    "bytes": b"abc",
    "bytearray": bytearray(b"abc"),
    "memoryview": memoryview(b"abc"),
    "None": None,
    "number": 5,
    "float ids": [1, 2.5],
    "whole float ids": [1.0, 2.0],
    "booleans": [True],
    "NumPy booleans": np.array([True, False]),
    "NumPy floats": np.array([1.0, 2.0]),
    "NumPy matrix": np.array([[1, 2]]),
    "NumPy scalar": np.int64(5),
    "objects": [Indexable()],
    "strings": ["1", "2"],
    "nested": [[1, 2]],
    "generator": (i for i in (1, 2)),
    "dict": {1: 2},
    "set": {1, 2},
    "beyond int64": [1, 2**70],
    "negative": [-1],
    "None inside": [1, None],
}
BAD_BY_NAME: dict[str, tuple[Any, ...]] = {
    "max_tokens": (1.5, 1.0, "5", True, 0, -1, math.nan, np.float64(5), [5], Indexable()),
    "stop": ([1], b"x", [b"x"], "", ["a", ""], {"a"}, {"a": 1}, 5, (c for c in "ab"), ["a"] * 17),
    "ignore_eos": ("no", 0, 1, None, [], np.int64(1)),
    "temperature": (
        *("0.5", True, None, math.nan, math.inf, 1j, np.float32(3), 10**400, [1.0]),
        *(Decimal("nan"), Decimal("sNaN"), np.array(0.5), np.True_),
    ),
    "top_k": (1.5, "3", True, None, 2**31, np.timedelta64(5, "s"), np.array(5)),
    "seed": (True, -1, 2**64, 1.0, "7", np.int64(-1)),
    "logit_bias": (
        *({"5": 1.0}, {True: 1.0}, {1.0: 1.0}, {5: math.nan}, {5: np.array(0.5)}, {5: "1"}, {5: True}),
        *([(5, 1.0)], None, {10**6: 1.0}, {-1: 1.0}, {5: math.inf}),
    ),
}
BAD_VALUES = [(name, value) for name, values in BAD_BY_NAME.items() for value in values]


@pytest.mark.parametrize("kind", BAD_PROMPTS)
def test_a_prompt_that_is_neither_text_nor_token_ids_is_refused(kind: str, model: llorch.Model) -> None:
    for call in (model.generate, model.stream):
        with pytest.raises(RequestError) as caught:
            call(BAD_PROMPTS[kind], max_tokens=1)
        (error,) = caught.value.errors
        assert error.field == "prompt"
        assert "expected a string, or a sequence of integers" in error.message
        assert "; got " in error.message


@pytest.mark.parametrize(("name", "value"), BAD_VALUES, ids=lambda value: repr(value)[:20])
def test_a_field_of_the_wrong_type_is_named_with_its_rule(name: str, value: Any, model: llorch.Model) -> None:
    given: dict[str, Any] = {name: value}
    for call in (model.generate, model.stream):
        with pytest.raises(RequestError) as caught:
            call(SECRET, **given)
        (error,) = caught.value.errors
        assert error.field == name
        assert error.message.startswith(f"{name}: expected ")
        assert "got" in error.message
        assert SECRET not in str(caught.value)


def test_all_faults_of_a_call_are_named_together(model: llorch.Model) -> None:
    values: dict[str, Any] = {
        "max_tokens": 1.5,
        "stop": [1],
        "ignore_eos": "no",
        "top_p": "x",
        "temprature": 1,
    }
    with pytest.raises(RequestError) as caught:
        model.generate(b"abc", **values)  # type: ignore[arg-type]
    assert {error.field for error in caught.value.errors} == {"prompt", *values}


def test_a_bad_call_touches_no_generation_of_another_thread(model: llorch.Model) -> None:
    expected = model.generate("Hello", max_tokens=40, seed=3, ignore_eos=True)
    found: list[llorch.Generation] = []
    may_end = threading.Event()

    def generate() -> None:
        while not may_end.is_set() or not found:
            found.append(model.generate("Hello", max_tokens=40, seed=3, ignore_eos=True))

    thread = threading.Thread(target=generate)
    thread.start()
    try:
        for _ in range(3):
            for prompt in BAD_PROMPTS.values():
                with pytest.raises(RequestError):
                    model.generate(prompt)
            for name, value in BAD_VALUES:
                with pytest.raises(RequestError):
                    model.generate("Hello", **{name: value})
    finally:
        may_end.set()
        thread.join(60)
    assert {(result.token_ids, result.text) for result in found} == {(expected.token_ids, expected.text)}


GOOD_PROMPTS: dict[str, Any] = {
    "tuple": (1, 5, 7),
    "NumPy int64": np.array([1, 5, 7]),
    "NumPy uint8": np.array([1, 5, 7], np.uint8),
    "NumPy scalars": [np.int32(1), np.uint64(5), np.int64(7)],
    "deque": deque([1, 5, 7]),
}


@pytest.mark.parametrize("kind", GOOD_PROMPTS)
def test_numpy_integers_and_any_sequence_are_token_ids(kind: str, model: llorch.Model) -> None:
    expected = model.generate([1, 5, 7], max_tokens=5, seed=9)
    numbers: dict[str, Any] = {"max_tokens": np.int64(5), "seed": np.uint64(9), "top_k": np.int32(40)}
    result = model.generate(GOOD_PROMPTS[kind], **numbers)
    assert (result.token_ids, result.prompt_token_ids) == (expected.token_ids, (1, 5, 7))
    assert {type(i) for i in (*result.token_ids, *result.prompt_token_ids, result.seed)} == {int}
    json.dumps([result.prompt_token_ids, result.token_ids, result.seed])


def test_numbers_of_other_types_become_plain_ones() -> None:
    params = SamplingParams(
        temperature=np.float32(0.5),  # type: ignore[arg-type]
        top_p=Fraction(1, 2),  # type: ignore[arg-type]
        min_p=Decimal("0.25"),  # type: ignore[arg-type]
        top_k=np.int8(3),  # type: ignore[arg-type]
        logit_bias=UserDict({np.int64(5): np.float32(1)}),  # type: ignore[dict-item]
    )
    assert (params.temperature, params.top_p, params.min_p, params.top_k) == (0.5, 0.5, 0.25, 3)
    assert params.logit_bias == {5: 1.0}
    values = [params.temperature, params.top_p, params.min_p, params.top_k, *params.logit_bias.items()]
    assert json.dumps(values) == "[0.5, 0.5, 0.25, 3, [5, 1.0]]"


def test_what_the_caller_changes_later_changes_no_request(model: llorch.Model) -> None:
    bias, ids, stop = {5: -math.inf}, [1, 5], ["a"]
    params = SamplingParams(logit_bias=bias)
    request = Request("job", ids, params, 1, stop)  # type: ignore[arg-type]
    bias[5], ids[0], stop[0] = 1.0, 2.5, 1  # type: ignore[assignment,call-overload]
    assert (params.logit_bias, request.token_ids, request.stop) == ({5: -math.inf}, (1, 5), ("a",))


def test_no_stop_strings_may_be_none_one_string_or_any_sequence(model: llorch.Model) -> None:
    assert model.generate("Hello", max_tokens=2, stop=None).token_ids
    assert Request("job", (1,), SamplingParams(), 1, "ab").stop == ("ab",)  # type: ignore[arg-type]
    assert model.generate("Hello", max_tokens=2, stop=deque(["zzz"])).token_ids


def test_the_engine_checks_requests_that_others_made(model: llorch.Model) -> None:
    engine = Engine(model._loaded, Settings(ctx_size=64))
    bad: Any = Request("job", b"abc", SamplingParams(), 1.5, [1], "no")  # type: ignore[arg-type]
    with pytest.raises(RequestError) as caught:
        engine.add(bad)
    assert [error.field for error in caught.value.errors] == ["token_ids", "max_tokens", "stop", "ignore_eos"]
    with pytest.raises(RequestError, match="params: expected SamplingParams"):
        engine.add(Request("job", (1,), {"temperature": 0}, 1))  # type: ignore[arg-type]
    for what in ("job", None, {"token_ids": [1]}):
        with pytest.raises(InputError, match="expected a Request"):
            engine.add(what)  # type: ignore[arg-type]
    assert not engine.has_work


def test_a_service_checks_types_before_it_counts_a_place(tiny_model: Path) -> None:
    service = running(tiny_model)
    bad: list[dict[str, Any]] = [
        {"prompt": b"abc"},
        {"prompt": 5},
        {"token_ids": b"abc"},
        {"token_ids": [1, 2.5]},
        {"token_ids": [True]},
        {"token_ids": []},
        {"prompt": "a", "stop": [1]},
        {"prompt": "a", "max_tokens": 1.5},
        {"prompt": "a", "ignore_eos": "no"},
        {"prompt": "a", "job_id": ["list"]},
        {"prompt": "a", "job_id": 5},
    ]

    async def work() -> None:
        for fields in bad:
            with pytest.raises(RequestError):
                await service.submit(**fields)
            assert service.n_open == 0
        submission = await service.submit(token_ids=np.array([1, 5]), stop="ab", max_tokens=1)  # type: ignore[arg-type]
        assert submission.request is not None
        assert (submission.request.token_ids, submission.request.stop) == ((1, 5), ("ab",))
        assert [event async for event in stream(submission)]
        await service.stop(0)

    do(work())


@pytest.mark.parametrize("path", [None, b"demo", 5, ["demo"]], ids=repr)
def test_load_refuses_a_path_that_is_none(path: Any) -> None:
    with pytest.raises(InputError, match="path: expected a string or a path, got a value of type"):
        llorch.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 1.5), ("threads", True), ("threads", "2"), ("threads", -1), ("ctx_size", 1.0),
        ("parallel", b"2"), ("weights", b"packed"), ("temperature", "0.5"), ("kv_type", "f64"),
    ],
)  # fmt: skip
def test_load_names_settings_of_the_wrong_type(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"argument {name}: expected "):
        llorch.load("demo", **{name: value})
    with pytest.raises(InputError, match="progress: expected a function"):
        llorch.load("demo", progress=5)  # type: ignore[arg-type]


def test_load_takes_numpy_numbers(tiny_model: Path) -> None:
    with llorch.load(
        tiny_model, threads=np.int64(1), temperature=np.float32(0), ctx_size=np.uint8(32)
    ) as model:
        assert model.n_ctx == 32


BAD_IDS: list[Any] = [b"abc", "abc", [1, 2.5], [True], {1: 2}, {1}, 5, None, [None], [[1]], np.array([1.0])]


def test_the_tokenizer_has_doors_too(model: llorch.Model) -> None:
    tokenizer = model.tokenizer
    for text in (b"abc", None, 5, ["a"]):
        with pytest.raises(InputError, match="text: expected a string, got a value of type"):
            tokenizer.encode(text)  # type: ignore[arg-type]
    for ids in BAD_IDS:
        with pytest.raises(InputError, match="token_ids: expected integers, got a value of type"):
            tokenizer.decode(ids)
        with pytest.raises(InputError, match="prompt_ids: expected integers"):
            tokenizer.decode([5], prompt_ids=ids)
    one_id: list[Callable[[Any], object]] = [tokenizer.piece, tokenizer.token_bytes]
    for call in one_id:
        for token_id in (1.0, True, "1", None, [1]):
            with pytest.raises(InputError, match="token_id: expected integers"):
                call(token_id)
        assert call(np.int64(5)) == call(5)
    ids = tokenizer.encode("Hello")
    assert tokenizer.decode(np.array(ids)) == tokenizer.decode(iter(ids)) == "Hello"  # type: ignore[arg-type]
