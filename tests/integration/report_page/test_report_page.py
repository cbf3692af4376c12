"""The page of `llorch report` in a real Chromium, opened from a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llorch.report.document import page_of
from tests.integration.report_page.conftest import Pages
from tests.support.browser import faults_of, shoot

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

BY_TIME, BY_ROOFLINE, STAGE_BY_STAGE, END_TO_END = range(4)


@contextmanager
def shown(browser: Browser, file: Path, **options: Any) -> Iterator[Page]:
    """A page from a file; it must load nothing else, and neither fail nor break its policy."""
    faults: list[str] = []
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
    context.on("request", lambda r: None if r.url == file.as_uri() else faults.append(f"asked {r.url}"))
    context.on("console", lambda message: faults.append(message.text))
    context.on("weberror", lambda error: faults.append(str(error.error)))
    try:
        page = context.new_page()
        page.goto(file.as_uri())
        yield page
        assert faults == []
    finally:
        context.close()


def colour_by(page: Page, way: int) -> None:
    page.locator("#colours input").nth(way).check()


def cell(page: Page, operation: str, layer: str) -> Any:
    return page.get_by_role("gridcell").get_by_label(f"{operation}, {layer}:")


def test_a_click_shows_the_figures_of_a_cell(browser: Browser, pages: Pages) -> None:
    with shown(browser, pages.whole) as page:
        assert page.locator("#colours label").all_inner_texts() == [
            "time", "share of the roofline", "divergence, stage by stage", "divergence, end to end"
        ]  # fmt: skip
        cell(page, "attn_q", "layer 1").click()
        panel = page.locator("#panel").inner_text()
        figures = pages.trace.operations["attn_q"]["1"]
        assert panel.startswith("attn_q, layer 1")
        assert f"{figures.n} times" in panel
        assert "Qcur-1" in panel
        assert "× 4 × 16" in panel
        assert "0.0001 + 1.9e-06 peak" in panel
        assert panel.count("within the tolerance") == 2
        assert cell(page, "attn_q", "layer 1").get_attribute("aria-pressed") == "true"


def test_colours_follow_what_is_chosen(browser: Browser, pages: Pages) -> None:
    with shown(browser, pages.whole) as page:
        seconds = {
            (label, layer): figures.seconds
            for label, layers in pages.trace.operations.items()
            for layer, figures in layers.items()
        }
        slowest, fastest = (choose(seconds, key=lambda key: seconds[key]) for choose in (max, min))
        for (label, layer), heat in ((slowest, "heat-9"), (fastest, "heat-0")):
            name = "outside the layers" if layer == "-1" else f"layer {layer}"
            assert cell(page, label, name).get_attribute("class") == heat
        colour_by(page, BY_ROOFLINE)
        share = pages.trace.operations["output"]["-1"].roofline
        assert share is not None
        expected = f"heat-{min(9, int(10 * share))}"
        assert cell(page, "output", "outside the layers").get_attribute("class") == expected
        colour_by(page, STAGE_BY_STAGE)
        assert cell(page, "norm", "layer 0").inner_text() == "0"
        assert cell(page, "prepare", "layer 0").inner_text() == "–"
        assert page.locator("#key .swatches span").count() == 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_planted_fault_stands_out_and_is_open_at_first(browser: Browser, pages: Pages, scheme: str) -> None:
    with shown(browser, pages.faulty, color_scheme=scheme) as page:
        assert "FAILED: checkpoint 5, stage by stage: attn_out-1" in page.locator("header").inner_text()
        assert page.locator("#panel").inner_text().startswith("attn_output, layer 1")
        assert "NOT within it" in page.locator("#panel").inner_text()
        colour_by(page, STAGE_BY_STAGE)
        assert page.locator(".heat-fault").count() == 1
        assert cell(page, "attn_output", "layer 1").inner_text().startswith("✕")
        shoot(page, f"report-fault-{scheme}")


def test_of_many_faults_the_first_that_is_computed_is_open(browser: Browser, pages: Pages) -> None:
    with shown(browser, pages.wrong_eps) as page:
        colour_by(page, STAGE_BY_STAGE)
        assert page.locator(".heat-fault").count() >= 3
        assert cell(page, "norm", "outside the layers").get_attribute("class") == "heat-fault"
        assert page.locator("#panel h3").inner_text() == "norm, layer 0"


def test_the_map_needs_no_mouse(browser: Browser, pages: Pages) -> None:
    with shown(browser, pages.whole) as page:
        assert page.locator("#map button[tabindex='0']").count() == 1
        cell(page, "attn_q", "layer 0").click()
        for key, expected in (
            ("ArrowRight", "attn_k, layer 0"),
            ("ArrowDown", "attn_k, layer 1"),
            ("ArrowDown", "attn_k, layer 1"),
            ("Home", "norm, layer 1"),
            ("End", "ffn_down, layer 1"),
            ("ArrowUp", "ffn_down, layer 0"),
            ("ArrowLeft", "swiglu, layer 0"),
        ):
            page.keyboard.press(key)
            assert page.locator("#panel h3").inner_text() == expected
            assert page.evaluate("document.activeElement.ariaLabel").startswith(f"{expected}:")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "panel"


def test_a_bundle_has_a_switch_between_its_references(browser: Browser, pages: Pages) -> None:
    with shown(browser, pages.bundle) as page:
        assert page.locator("#colours input").count() == 2
        assert sorted(page.locator("#profiles label").all_inner_texts()) == ["f32", "native"]
        colour_by(page, 1)
        shares = []
        for profile in ("native", "f32"):
            page.get_by_label(profile, exact=True).check()
            shares.append(float(cell(page, "output", "outside the layers").inner_text()))
        assert shares[0] > shares[1]


@pytest.mark.parametrize("name", ["whole", "faulty", "bundle"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_hard_to_read_or_without_a_name(
    browser: Browser, pages: Pages, name: str, scheme: str
) -> None:
    with shown(browser, getattr(pages, name), color_scheme=scheme) as page:
        for way in range(page.locator("#colours input").count()):
            colour_by(page, way)
            for check in ("contrast", "names", "references", "size"):
                assert faults_of(page, check) == [], (way, check)


@pytest.mark.parametrize("name", ["whole", "bundle"])
def test_axe_finds_nothing(browser: Browser, pages: Pages, name: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    with shown(browser, getattr(pages, name)) as page:
        found: Any = axe.Axe().run(page)
        assert [(v["id"], [n["html"][:150] for n in v["nodes"]]) for v in found.response["violations"]] == []


def test_a_narrow_window_scrolls_the_map_and_not_the_page(browser: Browser, pages: Pages) -> None:
    with shown(browser, pages.whole, viewport={"width": 400, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shoot(page, "report-narrow")


def test_hostile_names_run_nothing(browser: Browser, pages: Pages, tmp_path: Path) -> None:
    evil = "</script><script>document.title = 'run'</script><img src=x onerror=\"document.title='run'\">"
    model = pages.trace.model.model_copy(update={"name": evil})
    operations = {evil: pages.trace.operations["norm"]}
    changes = {"model": model, "operations": operations, "truth": None, "cpu": evil}
    (tmp_path / "evil.html").write_text(page_of(pages.trace.model_copy(update=changes), None))
    with shown(browser, tmp_path / "evil.html") as page:
        assert page.title() == f"{evil}: time"
        assert page.locator("#panel h3").inner_text().startswith(evil)
        assert page.locator("img").count() == 0
