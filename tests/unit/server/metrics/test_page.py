"""The page of metrics in process: formats, names, labels, who may read it."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from llorch.engine.service import EngineService
from llorch.server.app import create_app
from llorch.server.metrics.exposition import TEXT
from llorch.server.metrics.http_counts import OTHER
from llorch.settings import Settings
from tests.conftest import REPOSITORY
from tests.support.metrics import OPENMETRICS, families_of, lint, values_of

KEY = {"Authorization": "Bearer sesame"}


def new_app(**settings: Any) -> FastAPI:
    """An application whose model is never loaded."""
    return create_app(EngineService(Settings(**settings)))


def ask(app: FastAPI, path: str = "/metrics", method: str = "GET", **options: Any) -> httpx.Response:
    async def work() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

    return asyncio.run(work())


@pytest.mark.parametrize("names", ["llorch", "vllm"])
def test_there_is_a_page_before_the_model_is_loaded(names: str) -> None:
    answer = ask(new_app(metrics_names=names))
    assert (answer.status_code, answer.headers["content-type"]) == (200, TEXT)
    values = values_of(families_of(answer.text, TEXT))
    assert values['llorch_stage{stage="loading"}'] == 1
    assert values["llorch_requests_running"] == values["llorch_requests_waiting"] == 0
    assert values['llorch_generations_total{finish_reason="error"}'] == 0
    assert any(name.startswith("vllm:") for name in values) == (names == "vllm")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain;version=0.0.4", "text/plain"),
        (f"{OPENMETRICS},text/plain;version=0.0.4;q=0.5", "application/openmetrics-text"),
        ("application/openmetrics-text;version=0.0.1;q=0.75,text/plain", "application/openmetrics-text"),
        ("Application/OpenMetrics-Text", "application/openmetrics-text"),
        ("application/openmetrics-text;q=0, text/plain", "text/plain"),
        (";;,,;q=,application/openmetrics-text-not", "text/plain"),
        ("application/openmetrics-text; version=\u00e9", "application/openmetrics-text"),
    ],
)
def test_the_format_is_the_one_that_the_client_reads(accept: str, kind: str) -> None:
    answer = ask(new_app(), headers={"Accept": accept.encode("latin-1")})
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert "llorch_requests_running" in values_of(families_of(answer.text, answer.headers["content-type"]))
    assert answer.text.endswith("# EOF\n") == ("openmetrics" in kind)


def test_colons_stay_colons_in_both_formats() -> None:
    app = new_app(metrics_names="vllm")
    for accept in (TEXT, OPENMETRICS):
        assert '\nvllm:num_requests_waiting{model_name=""} 0.0\n' in ask(app, headers={"Accept": accept}).text


def test_head_has_the_head_alone() -> None:
    answer = ask(new_app(), method="HEAD")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, TEXT, b"")


def test_the_page_needs_the_key_unless_a_setting_says_no() -> None:
    guarded = new_app(api_key=SecretStr("sesame"))
    assert ask(guarded).status_code == 401
    assert ask(guarded, headers=KEY).status_code == 200
    opened = new_app(api_key=SecretStr("sesame"), metrics_without_key=True)
    assert ask(opened).status_code == 200
    assert ask(opened, "/props").status_code == 401


def test_the_page_is_made_outside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app()
    made_on: list[threading.Thread] = []
    page = app.state.metrics.page

    def noted(accept: str) -> tuple[bytes, str]:
        made_on.append(threading.current_thread())
        return page(accept)  # type: ignore[no-any-return]

    monkeypatch.setattr(app.state.metrics, "page", noted)
    assert ask(app).status_code == 200
    assert made_on != [threading.main_thread()]


def test_two_applications_count_apart() -> None:
    first, second = new_app(), new_app()
    ask(first, "/health")
    sample = 'llorch_http_requests_total{method="GET",route="/health",status="200"}'
    assert values_of(families_of(ask(first).text, TEXT))[sample] == 1
    assert sample not in values_of(families_of(ask(second).text, TEXT))


def test_names_are_as_promtool_wants_them() -> None:
    families = families_of(ask(new_app()).text, TEXT)
    assert lint([family for family in families if family.name.startswith("llorch_")]) == []
    assert {family.name.partition("_")[0] for family in families} == {"llorch", "process"}


def test_clients_cannot_make_labels() -> None:
    app = new_app(api_key=SecretStr("sesame"))
    for i in range(20):
        ask(app, f"/nothing/{i}", headers=KEY)
        ask(app, f"/secret{i}")
        ask(app, "/health", method=f"ODD{i}", headers=KEY)
        ask(app, f"/v1/models/m{i}", headers=KEY)
    labels = {key[:2] for key in app.state.metrics.http.by_label}
    assert labels == {
        ("GET", OTHER),
        (OTHER, "/health"),
        ("GET", "/v1/models/{model:path}"),
    }


def documented() -> set[str]:
    """Names of the table in the documentation, without labels."""
    section = (
        (REPOSITORY / "docs" / "serving.md").read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    )
    cells = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(llorch_\w+|vllm:\w+)", cell)}


def test_the_documentation_names_every_metric() -> None:
    families = families_of(ask(new_app(metrics_names="vllm")).text, TEXT)
    shown = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    only_when_loaded = {"llorch_build_info", "vllm:cache_config_info"}
    assert documented() - only_when_loaded == {name for name in shown if not name.startswith("process_")}
