"""Prometheus rules and the Grafana dashboard hold together; whether their metrics exist, a live server says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.deployment import DEPLOY, dashboard, rule_groups

ALERTS = [rule for group in rule_groups() for rule in group["rules"] if "alert" in rule]
RULES = DEPLOY / "prometheus" / "rules.yml"

PROMTOOL = shutil.which(
    "promtool", path=f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}"
)


def needs_promtool(test: Callable[..., None]) -> Callable[..., None]:
    """CI installs it before the slow tests."""
    skip = pytest.mark.skipif(
        PROMTOOL is None, reason="no promtool: tools/setup/deployment_checks.sh installs it"
    )
    return pytest.mark.slow(skip(test))


def promtool(*words: str) -> None:
    """Must be content."""
    done = subprocess.run([str(PROMTOOL), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_how_bad_it_is_and_what_it_means() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS) > 5
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_panels_of_the_dashboard_fill_rows_and_use_its_data_source() -> None:
    panels = dashboard()["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", json.dumps([panel["targets"] for panel in panels])))
    assert used - {"__rate_interval"} <= variables


@needs_promtool
def test_prometheus_understands_rules_and_configuration() -> None:
    promtool("check", "rules", str(RULES))
    promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


@needs_promtool
def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"panel:{i}", "expr": expression.replace("$__rate_interval", "5m")}
        for i, expression in enumerate(expressions)
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", str(path))


QUIET = 'llorch_stage{instance="a",job="llorch",stage="failed"}'
SERIES = {
    QUIET: "0x60",
    'up{instance="a",job="llorch"}': "1x60",
    'llorch_queue_full_total{instance="a",job="llorch"}': "0x60",
    'llorch_requests_running{instance="a",job="llorch"}': "4x60",
    'llorch_requests_waiting{instance="a",job="llorch"}': "2x60",
    'llorch_slots{instance="a",job="llorch"}': "4x60",
}


@needs_promtool
@pytest.mark.parametrize(
    ("series", "values", "alert", "labels"),
    [
        ('up{instance="a",job="llorch"}', "0x60", "LlorchDown", {}),
        (QUIET, "1x60", "LlorchFailed", {"stage": "failed"}),
        ('llorch_queue_full_total{instance="a",job="llorch"}', "0+6x60", "LlorchRefusesRequests", {}),
        (QUIET, "0x60", "", {}),
    ],
)
def test_alerts_come_when_they_should(
    series: str, values: str, alert: str, labels: dict[str, str], tmp_path: Path
) -> None:
    expected = [
        {
            "eval_time": "20m",
            "alertname": rule["alert"],
            "exp_alerts": [
                {
                    "exp_labels": {
                        "severity": rule["labels"]["severity"],
                        "instance": "a",
                        "job": "llorch",
                        **labels,
                    }
                }
            ]
            if rule["alert"] == alert
            else [],
        }
        for rule in ALERTS
    ]
    for entry in expected:
        for one in entry["exp_alerts"]:
            rule = next(rule for rule in ALERTS if rule["alert"] == alert)
            filled = {
                key: text.replace("{{ $labels.instance }}", "a").replace("{{ $labels.stage }}", "failed")
                for key, text in rule["annotations"].items()
            }
            one["exp_annotations"] = filled
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in (SERIES | {series: values}).items()],
                "alert_rule_test": expected,
                "promql_expr_test": [
                    {
                        "expr": "llorch:pod_load:ratio",
                        "eval_time": "20m",
                        "exp_samples": [
                            {"labels": 'llorch:pod_load:ratio{instance="a",job="llorch"}', "value": 1.5}
                        ],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(test))
    promtool("test", "rules", str(path))
