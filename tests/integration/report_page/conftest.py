"""The browser, and pages of a small model: everything within its tolerance, and with a fault planted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llorch.report.bundle_figures import read_bundle
from llorch.report.document import page_of
from llorch.report.trace_file import TraceSummary
from llorch.report.truth import truth_of
from llorch.validation.dumps import Reference
from tests.support.browser import launched
from tests.support.faults import faulty_subject, larger_eps, one_value_off
from tests.support.proof import stored_bundle
from tests.support.traces import TINY_MODEL, TINY_REFERENCE, summary_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@dataclass(frozen=True)
class Pages:
    """A trace, its page, the same with a fault planted in one place and in all norms, and the page of a bundle."""

    trace: TraceSummary
    whole: Path
    faulty: Path
    wrong_eps: Path
    bundle: Path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(browser: Browser, tiny_trace: Path, tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """Asked for after the browser, so that a machine without one computes nothing."""
    folder = tmp_path_factory.mktemp("pages")
    trace = summary_of(tiny_trace)
    reference = Reference.load(TINY_REFERENCE)

    def page_with(**fault: Any) -> str:
        with faulty_subject(TINY_MODEL, reference, **fault) as subject:
            return page_of(summary_of(tiny_trace, truth=truth_of(subject, reference).record()), None)

    texts = {
        "whole": page_of(trace, None),
        "faulty": page_with(tensors=one_value_off("blk.1.attn_output.weight")),
        "wrong_eps": page_with(config=larger_eps),
        "bundle": page_of(None, read_bundle(stored_bundle("checkpoint"))),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return Pages(trace, *(folder / f"{name}.html" for name in texts))
