"""Pages of metrics, read as Prometheus reads them."""

from __future__ import annotations

from typing import TypeAlias

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Values: TypeAlias = dict[str, float]
"""Values by sample, written as in the text format: ``name{label="value"}``, labels in order of their names."""


def families_of(page: str, content_type: str) -> list[Metric]:
    """The metrics of a page, by the parser of its format."""
    return list((read_openmetrics if "openmetrics" in content_type else read_text)(page))


def values_of(families: list[Metric]) -> Values:
    """The values of all samples; no sample may come twice."""
    values: Values = {}
    for family in families:
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in values
            values[key] = sample.value
    return values


def lint(families: list[Metric]) -> list[str]:
    """What `promtool check metrics` would say of them, as far as it can be said of a page.

    Source: Prometheus, util/lint (promlint).
    """
    faults = []
    for family in families:
        name = family.name
        if not family.documentation:
            faults.append(f"{name} has no help")
        if name != name.lower() or ":" in name or "__" in name:
            faults.append(f"{name} is not in snake case")
        parts = name.split("_")
        if set(parts) & {
            "ms",
            "s",
            "milliseconds",
            "minutes",
            "mb",
            "kb",
            "kib",
            "mib",
            "percent",
            "percentage",
        }:
            faults.append(f"{name} has an abbreviated or derived unit")
        if set(parts) & {"gauge", "counter", "histogram", "summary", "map", "int", "float"}:
            faults.append(f"{name} names its type")
        if family.type != "counter" and name.endswith("_total"):
            faults.append(f"{name} ends like a counter")
        if family.type not in ("histogram", "summary") and name.endswith(("_count", "_sum", "_bucket")):
            faults.append(f"{name} ends like a part of a histogram")
        labels = {label for sample in family.samples for label in sample.labels}
        if family.type != "histogram" and labels & {"le", "quantile"}:
            faults.append(f"{name} has a label of histograms")
        if any(label != label.lower() for label in labels):
            faults.append(f"{name} has a label that is not in snake case")
    return faults
