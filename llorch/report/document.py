"""One self-contained page of a trace, a bundle, or both."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from llorch.errors import InputError
from llorch.report import sections
from llorch.report.bundle_figures import BundleFigures
from llorch.report.compared import Compared
from llorch.report.escaped import data_script, text
from llorch.report.map_data import map_data
from llorch.report.trace_file import TraceSummary
from llorch.validation.checkpoint_summary import failure_lines
from llorch.version import __version__

_PAGE = Path(__file__).parent / "page"
_STYLES = ("base.css", "tables.css", "map.css")
_SCRIPTS = ("numbers.js", "colours.js", "nodes.js", "panel.js", "map.js", "main.js")
_PLACE = re.compile(r"\{\{(\w+)\}\}")
PROBLEMS_AT_MOST = 20


def page_of(trace: TraceSummary | None, figures: BundleFigures | None) -> str:
    """The page as HTML; it asks no network for anything and runs nothing but its own script.

    Args:
        trace: has the times, and with `--reference` differences.
        figures: a bundle's; at least one of both.

    Raises:
        InputError: both are there, but of different models.
    """
    if trace and figures:
        _require_same_model(trace, figures)
    compared = _all_compared(trace, figures)
    has_map = trace is not None or bool(compared)
    style = "\n".join(_read(name) for name in _STYLES)
    script = "\n".join(['"use strict";', *map(_read, _SCRIPTS)])
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'"
    parts = [
        sections.checkpoints(compared),
        sections.totals(trace) if trace else "",
        sections.bundle_tables(figures) if figures else "",
    ]
    data = data_script("data", map_data(trace, compared)) + f"\n<script>{script}</script>"
    values = {
        "policy": text(policy),
        "generator": text(f"llorch {__version__}"),
        "title": text(_title(trace, figures)),
        "style": style,
        "verdict": _verdict(compared, figures),
        "facts": f'<dl class="facts">{"".join(_facts(trace, figures))}</dl>',
        "map": _read("map.html") if has_map else "",
        "sections": "\n".join(part for part in parts if part),
        "limits": sections.limits(trace, compared, figures),
        "data": data if has_map else "",
    }
    return _PLACE.sub(lambda found: values[found[1]], _read("report.html"))


def _read(name: str) -> str:
    return (_PAGE / name).read_text("utf-8")


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _require_same_model(trace: TraceSummary, figures: BundleFigures) -> None:
    traced, proven = trace.model.sha256, figures.model_sha256
    if traced and proven and traced != proven:
        raise InputError(
            f"the trace and {figures.bundle.folder} are of different models: sha256 {traced[:16]}… and {proven[:16]}…"
        )


def _all_compared(trace: TraceSummary | None, figures: BundleFigures | None) -> list[Compared]:
    """Results of both, each under a name of its own."""
    found = list(figures.compared) if figures else []
    if trace and trace.truth:
        own = Compared.from_trace(trace.truth)
        labels = {result.label for result in found}
        found.insert(0, replace(own, label=f"{own.label} (trace)") if own.label in labels else own)
    return found


def _title(trace: TraceSummary | None, figures: BundleFigures | None) -> str:
    if trace:
        return (
            f"{trace.model.name}: time and truth" if trace.truth or figures else f"{trace.model.name}: time"
        )
    assert figures is not None
    name = figures.about("model").get("file") or figures.about("model").get("name")
    return f"{name or 'llorch'}: {figures.bundle.index.kind} bundle"


def _verdict(compared: Sequence[Compared], figures: BundleFigures | None) -> str:
    if figures and figures.bundle.problems:
        shown = figures.bundle.problems[:PROBLEMS_AT_MOST]
        more = len(figures.bundle.problems) - len(shown)
        lines = [*shown, f"and {more} more"] if more else shown
        items = "".join(f"<li>{text(line)}</li>" for line in lines)
        return f'<p class="verdict bad">The bundle does not hold</p><ul class="problems">{items}</ul>'
    verdicts = [result.passed for result in compared]
    if figures and figures.bundle.index.passed is not None:
        verdicts.append(figures.bundle.index.passed)
    if not verdicts:
        return '<p class="verdict soft">Nothing was judged.</p>'
    if all(verdicts):
        what = "Every checkpoint passed" if compared else "Every check passed"
        return f'<p class="verdict good">{what}</p>'
    failed = [row.worst for result in compared for row in result.rows if row.verdict == "fail" and row.worst]
    first = f": {failure_lines(failed[0])[0]}" if failed else ""
    return f'<p class="verdict bad">FAILED{text(first)}</p>'


def _facts(trace: TraceSummary | None, figures: BundleFigures | None) -> Iterator[str]:
    for name, value in (*_trace_facts(trace), *_bundle_facts(figures)):
        yield f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"


def _trace_facts(trace: TraceSummary | None) -> Iterator[tuple[str, object]]:
    if trace is None:
        return
    if trace.model.sha256:
        yield "sha256 of the model", trace.model.sha256
    yield "machine", trace.cpu
    yield "compute threads", trace.n_threads
    yield "kernels", trace.kernel_path
    yield "KV cache", trace.kv_type
    rows, seconds = sum(step.rows for step in trace.steps), sum(step.seconds for step in trace.steps)
    yield "traced", f"{len(trace.steps)} steps, {rows} rows, {seconds:.3f} s"
    if roofs := trace.roofline:
        bfloats = f"{roofs.bfloat_macs_per_s / 1e9:.0f} GMAC/s BF16, " if roofs.bfloat_macs_per_s else ""
        yield (
            "roofline",
            f"{roofs.bytes_per_s / 1e9:.1f} GB/s, {roofs.integer_macs_per_s / 1e9:.0f} GMAC/s integer, {bfloats}"
            f"{roofs.float_macs_per_s / 1e9:.0f} GMAC/s float",
        )
    yield "traced by", f"llorch {trace.version}"
    if trace.truth:
        origin = trace.truth.reference
        n_tokens = f"{origin.n_prompt_tokens} tokens of prompt, {origin.n_decode} decode steps"
        yield "held against", f"{origin.program}, profile {trace.truth.profile}: {n_tokens}"
        if origin.weights:
            yield "weights compared", origin.weights


def _bundle_facts(figures: BundleFigures | None) -> Iterator[tuple[str, object]]:
    if figures is None:
        return
    index, environment = figures.bundle.index, figures.about("environment")
    yield "bundle", f"{index.kind}, {figures.bundle.folder.name}"
    if index.created:
        yield "made", index.created
    if figures.model_sha256:
        yield "model of the bundle", figures.about("model").get("file", "")
        yield "its sha256", figures.model_sha256
    names = ("llorch", "commit", "python", "numpy", "numba")
    yield "versions", ", ".join(f"{name} {environment.get(name)}" for name in names if environment.get(name))
    kernels = environment.get("kernels")
    if isinstance(kernels, dict):
        yield "machine of the bundle", f"{kernels.get('cpu')}, {kernels.get('path')} kernels"
    yield "re-checked", f"{figures.bundle.n_recomputed} verdicts, {len(figures.bundle.problems)} problems"
