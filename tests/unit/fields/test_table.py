"""One table: settings, request checks, sampling parameters and flags cannot disagree about a field."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import fields
from typing import Annotated, Any, get_args, get_origin

import numpy as np
import pytest
from pydantic import SecretStr, ValidationError

from llorch.cli.main import build_parser
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.errors import FieldError, RequestError
from llorch.fields.kinds import path
from llorch.fields.table import FIELDS, REQUEST, SETTINGS, TABLE, suggest
from llorch.server.routes.generate import parse_generate
from llorch.settings import Settings

NUMBERS = [field for field in TABLE if field.kind.type in (int, float)]
every_number = pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)


def limits(name: str) -> tuple[float, float | None, bool]:
    """Lowest and highest value of a number, and whether the lowest is included."""
    found = FIELDS[name].kind.limits
    return found.get("ge", found.get("gt")), found.get("le"), "ge" in found


def edges(name: str) -> tuple[list[Any], list[Any]]:
    """Values at the edges that are good, and those just outside."""
    low, high, is_low_good = limits(name)
    step: Any = 1 if FIELDS[name].kind.type is int else 1e-6
    good, bad = ([low], [low - step]) if is_low_good else ([low + step], [low])
    if high is not None:
        good, bad = [*good, high], [*bad, high + step]
    return good, [*bad, math.nan, math.inf, -math.inf]


def as_setting(name: str, value: object) -> bool:
    try:
        Settings(**{name: value})  # type: ignore[arg-type]
    except ValidationError:
        return False
    return True


def as_request(name: str, value: object) -> bool:
    try:
        parse_generate({"prompt": "a", name: value}, 100)
    except RequestError:
        return False
    return True


def as_parameter(name: str, value: object) -> bool:
    try:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    except RequestError:
        return False
    return True


def in_python(**changed: Any) -> list[FieldError]:
    """What is wrong with a request of a Python caller."""
    given = {"job_id": "a", "token_ids": (1,), "params": SamplingParams(), "max_tokens": 1, **changed}
    try:
        Request(**given).check(n_vocab=100, n_ctx=10)
    except RequestError as error:
        return error.errors
    return []


def test_names_are_unique_and_every_field_says_what_it_means() -> None:
    assert len(FIELDS) == len(TABLE) == len(SETTINGS.keys() | REQUEST.keys())
    assert all(field.words and not field.words.endswith(".") for field in TABLE)


def test_settings_are_those_of_the_table_with_their_types_and_defaults() -> None:
    assert list(Settings.model_fields) == list(SETTINGS)
    for name, field in SETTINGS.items():
        pydantic_field = Settings.model_fields[name]
        annotation: Any = pydantic_field.annotation
        if field.default is None:
            annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
        if field.kind.choices:
            assert (get_origin(annotation), get_args(annotation)) == (
                get_origin(field.kind.type),
                field.kind.choices,
            )
        else:
            if get_origin(annotation) is Annotated:
                annotation = get_args(annotation)[0]
            special = {
                "api_key": SecretStr,
                "admin_key": SecretStr,
                "allowed_hosts": tuple[str, ...],
                "cors_origins": tuple[str, ...],
            }
            expected = str if field.kind == path() else special.get(name, field.kind.type)
            assert annotation == expected
        assert pydantic_field.default == field.default
        assert field.default is None or field.faults(field.default) == []


def test_sampling_parameters_are_request_fields_with_the_same_defaults() -> None:
    params = SamplingParams()
    for field in fields(SamplingParams):
        if field.name == "penalize_prompt":  # decided by the interface, not by its client
            continue
        assert field.name in REQUEST
        if field.name in SETTINGS:
            assert getattr(params, field.name) == REQUEST[field.name].default
    assert SamplingParams.from_settings(Settings()) == params


@every_number
def test_a_number_has_the_same_limits_wherever_it_comes_from(field: Any) -> None:
    good, bad = edges(field.name)
    for value in good:
        assert field.faults(value) == []
        assert field.name not in SETTINGS or as_setting(field.name, value)
        assert field.name not in REQUEST or as_request(field.name, value)
        assert field.name not in SamplingParams.__dataclass_fields__ or as_parameter(field.name, value)
    for value in bad:
        assert field.faults(value)
        assert field.name not in SETTINGS or not as_setting(field.name, value)
        assert field.name not in REQUEST or not as_request(field.name, value)
        assert field.name not in SamplingParams.__dataclass_fields__ or not as_parameter(field.name, value)


@every_number
def test_a_boolean_is_no_number_and_the_rule_names_the_limits(field: Any) -> None:
    low, high, _ = limits(field.name)
    assert field.faults(True)
    assert str(low) in field.rule
    assert high is None or str(high) in field.rule or f"2^{int(high).bit_length()}" in field.rule


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("job_id", ["a", "A-z_0.9:" * 8], ["", "a" * 65, "a b", "a\n", "ä", 5]),
        ("stop", [(), ("a",), ("x" * 100,) * 16], [("",), ("x" * 101,), ("a",) * 17, (1,), 5, ("\ud800",)]),
        (
            "max_tokens",
            [1, 10**9, np.int64(5)],
            [-1, 1.5, "5", True, np.True_, np.float64(5), np.array([5, 6])],
        ),
        ("ignore_eos", [True, False], [0, "no", None]),
    ],
)
def test_python_callers_meet_the_limits_of_http(name: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert in_python(**{name: value}) == []
    for value in bad:
        assert [fault.field for fault in in_python(**{name: value})] == [name]
        as_json = list(value) if isinstance(value, tuple) else value
        assert as_json is None or not as_request(name, as_json)


def test_a_request_for_no_tokens_is_for_the_engine_and_not_for_generate() -> None:
    assert in_python(max_tokens=0) == []
    assert not as_request("max_tokens", 0)


def test_only_python_callers_can_forbid_a_token() -> None:
    """JSON has no infinities."""
    assert as_parameter("logit_bias", {5: -math.inf})
    assert not as_request("logit_bias", {"5": -math.inf})
    for value in (math.inf, math.nan, 100.5, "1", True):
        assert not as_parameter("logit_bias", {5: value})
        assert not as_request("logit_bias", {"5": value})
    assert not as_parameter("logit_bias", {"5": 1.0})
    assert "-inf" in SamplingParams.__doc__  # type: ignore[operator]


def test_a_message_tells_numbers_and_no_text() -> None:
    (fault,) = FIELDS["top_k"].faults(-5)
    assert fault.message == "top_k: expected an integer, 0 <= top_k < 2^31; got -5"
    for name, value in (("temperature", "my secret"), ("stop", ["my secret" * 20]), ("job_id", "my secret")):
        (fault,) = FIELDS[name].faults(value)
        assert "secret" not in fault.message
    (fault,) = FIELDS["seed"].faults(10**5000)  # more digits than Python writes
    assert len(fault.message) < 120


def test_suggest_finds_typos_and_other_spellings_and_nothing_far_away() -> None:
    assert suggest("temprature", FIELDS) == "temperature"
    assert suggest("max-tokens", FIELDS) == "max_tokens"
    assert suggest("maxTokens", FIELDS) == "max_tokens"
    assert suggest("temp", FIELDS) == "temperature"
    assert suggest("xyzzy", FIELDS) is None
    assert suggest("x" * 10**6, FIELDS) is None


def flags_of(command: str) -> dict[str, list[str]]:
    """Spellings of each flag of a command by the name of its value."""
    parser = build_parser(command)
    (commands,) = (action for action in parser._actions if action.dest == "command")
    return {
        action.dest: list(action.option_strings)
        for action in commands.choices[command]._actions  # type: ignore[union-attr,call-overload,index]
    }


def test_every_setting_is_a_flag_of_serve_and_every_sampling_field_one_of_generate() -> None:
    serve, generate = flags_of("serve"), flags_of("generate")
    for name, field in SETTINGS.items():
        assert f"--{name.replace('_', '-')}" in serve[name]
        assert set(field.flags) <= set(serve[name])
        if name in REQUEST:
            assert generate[name] == serve[name]
    assert "--seed" in generate["seed"]
    assert "--stop" in generate["stop"]


def test_reading_the_table_imports_no_pydantic() -> None:
    code = "import sys, llorch.fields.table, llorch.cli.options; print('pydantic' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"
