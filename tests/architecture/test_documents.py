"""The pages about the code say what is there: every file they name exists, and the walks are as short as they claim."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY

PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tools/deploy/README.md"),
    *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")),
]
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
FILE = re.compile(r"`((?:llorch|tools|tests|docs)/[\w./-]+\.(?:py|md|sh|toml))`")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[\w-]+)?\)")


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])  # it names what was
def test_every_file_that_a_page_names_exists(page: str) -> None:
    source = (REPOSITORY / page).read_text("utf-8")
    made = set(re.findall(r"`([\w./]+)`, a new file:", source))  # by the recipes
    missing = {path for path in FILE.findall(source) if not (REPOSITORY / path).exists()} - made
    assert missing == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_inside_the_repository_leads_somewhere(page: str) -> None:
    folder = (REPOSITORY / page).parent
    broken = {
        link for link in LINK.findall((REPOSITORY / page).read_text("utf-8")) if not (folder / link).exists()
    }
    assert broken == set()


@pytest.mark.parametrize(("heading", "most"), [("How a token travels", 14), ("How a weight travels", 9)])
def test_the_walks_touch_few_files(heading: str, most: int) -> None:
    section = ARCHITECTURE.split(f"## {heading}")[1].split("\n## ")[0]
    stops = re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)
    assert len(stops) == len(set(stops)) <= most
    assert len(stops) > 5


def test_the_picture_names_every_package_and_every_module_at_the_top() -> None:
    picture = ARCHITECTURE.split("```")[1]
    package = REPOSITORY / "llorch"
    names = {path.name + "/" for path in package.iterdir() if (path / "__init__.py").exists()}
    names |= {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    assert {name for name in names if name not in picture} == set()
