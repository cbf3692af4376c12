"""The pages as a site: links lead somewhere, nothing is fetched from elsewhere, pictures and commands are true."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from llorch.cli.main import build_parser
from tests.conftest import REPOSITORY
from tools.docs.drawings import DRAWINGS, PICTURES
from tools.docs.links import on_page_markdown

PAGES = sorted(path.name for path in (REPOSITORY / "docs").glob("*.md"))
WITH_COMMANDS = [
    "README.md",
    "CONTRIBUTING.md",
    "tools/deploy/README.md",
    *(f"docs/{name}" for name in PAGES),
]
BLOCK = re.compile(r"^```(?:console|sh|bash|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENDS = re.compile(r"^(?:\||\|\||&&|;|&|>|>>|<|2>|2>&1)$")
"""Words that end a command."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_becomes_one_of_the_site_and_is_in_its_menu(site: Path) -> None:
    menu = (site / "index.html").read_text("utf-8")
    for name in PAGES:
        page = name.removesuffix(".md") + ".html"
        assert (site / page).is_file()
        assert f'href="{page}"' in menu


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        fetched = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"([^\"]+)\"", page.read_text("utf-8")
        )
        assert fetched
        assert [address for address in fetched if re.match(r"(?:https?:)?//", address)] == []


def test_links_out_of_docs_lead_to_the_repository_or_become_words() -> None:
    page = "[a b](../README.md#x), [c](own.md)"
    known, unknown = SimpleNamespace(repo_url="https://example.org/llorch/"), SimpleNamespace(repo_url=None)
    there = "[a b](https://example.org/llorch/blob/main/README.md#x), [c](own.md)"
    assert on_page_markdown(page, config=known) == there
    assert on_page_markdown(page, config=unknown) == "a b, [c](own.md)"


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_what_its_program_draws(name: str) -> None:
    assert (PICTURES / name).read_text("utf-8") == str(DRAWINGS[name]())


def test_every_picture_is_shown_somewhere() -> None:
    pages = "".join((REPOSITORY / page).read_text("utf-8") for page in WITH_COMMANDS)
    assert {path.name for path in PICTURES.iterdir() if f"pictures/{path.name}" not in pages} == set()


def commands(page: str) -> Iterator[list[str]]:
    """The words of each command of a page's shell blocks that runs llorch or a module of tools/."""
    for block in BLOCK.findall((REPOSITORY / page).read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.removeprefix("$ ") if line.startswith("$ ") else line
            if not re.match(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?(?:llorch|python3?) ", command):
                continue
            words = shlex.split(command, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            end = next((i for i, word in enumerate(words) if ENDS.match(word)), len(words))
            yield words[:end]


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_of_a_page_is_one_that_llorch_takes(page: str) -> None:
    for words in commands(page):
        program, *rest = words
        if Path(program).name == "llorch":
            chosen = next((word for word in rest if not word.startswith("-")), None)
            try:
                build_parser(chosen).parse_args(rest)
            except SystemExit:
                pytest.fail(f"{page}: {shlex.join(words)}")
        elif rest[:1] == ["-m"] and rest[1].startswith("tools."):
            assert importlib.util.find_spec(rest[1]) is not None, f"{page}: {shlex.join(words)}"
