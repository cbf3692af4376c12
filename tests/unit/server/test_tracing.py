"""When spans are made, and what is said where OpenTelemetry is missing."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from llorch.engine.service import EngineService
from llorch.errors import SettingsError
from llorch.server.tracing import _traces_url, tracing_of
from llorch.settings import Settings, load_settings

MODULE = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"


def service(**settings: Any) -> EngineService:
    return EngineService(Settings(**settings))


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry is not installed."""
    monkeypatch.setitem(sys.modules, MODULE, None)


@pytest.mark.usefixtures("missing")
def test_a_setting_without_the_package_is_one_clear_error() -> None:
    with pytest.raises(SettingsError, match=r"otel_endpoint: .*pip install 'llorch\[otel\]'"):
        tracing_of(service(otel_endpoint="http://localhost:4318"))


@pytest.mark.usefixtures("missing")
def test_a_variable_without_the_package_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, "http://localhost:4318")
    assert tracing_of(service()) is None
    (record,) = caplog.records
    assert VARIABLE in record.getMessage()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {VARIABLE: ""},
        {VARIABLE: "http://localhost:4318", "OTEL_SDK_DISABLED": "true"},
        {VARIABLE: "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nobody_traces_who_was_not_asked_to(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing_of(service()) is None


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (None, None),
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("https://c/otlp/", "https://c/otlp/v1/traces"),
        ("http://c:4318/v1/traces", "http://c:4318/v1/traces"),
    ],
)
def test_the_path_for_traces_is_added_where_it_is_missing(endpoint: str | None, url: str | None) -> None:
    assert _traces_url(endpoint) == url


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://c", "http://", "http://c?x", "http://a b"])
def test_what_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="--otel-endpoint: expected an address"):
        load_settings(overrides={"otel_endpoint": endpoint})
